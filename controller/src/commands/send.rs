//! `kactl send`: sends files to hosts that run already.

use std::fs::File;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use ka_agent::relay::window;

use super::slow::SlowArgs;
use super::watch;
use crate::cli::exit::Outcome;
use crate::cli::values::{self, Listen};
use crate::config::{Config, keys};
use crate::run::hub::{Hub, Place};
use crate::run::order::OrderSource;
use crate::run::session::{Gate, SessionSpec};
use crate::run::source::{CommandSource, DirectorySource, FileSource, Source};
use crate::view::progress::Progress;

/// Options of `kactl send`.
#[derive(Debug, clap::Args)]
pub struct SendArgs {
    /// The session's name, by which the hosts find it
    #[arg(long, value_name = "NAME", value_parser = values::name)]
    pub session: String,
    /// How many hosts to wait for
    #[arg(short = 'n', value_name = "N")]
    pub nodes_wanted: NonZeroU32,
    /// What to send.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Address, and control port, to listen on instead of all addresses
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = values::listen)]
    pub listen: Option<Listen>,
    /// Directory of the keys, if not the one that the configuration names
    #[arg(long, value_name = "DIR")]
    pub keys: Option<PathBuf>,
    /// How long to wait for N hosts: seconds, or 10m, 2h; then goes on with those that are there
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub timeout: Option<Duration>,
    /// Silence after which a node counts as dead, when a neighbour complains of it
    #[arg(long, value_name = "TIME", default_value = "1.5", value_parser = values::duration)]
    pub dead_after: Duration,
    /// How often hosts that failed for a passing cause, or came late, are served: rounds in all
    #[arg(long, value_name = "R", default_value = "2")]
    pub rounds: NonZeroU32,
    /// The chain's order: address, file:FILE (a MAC or address a line), or switch:FILE (lines 'MAC GROUP')
    #[arg(long, value_name = "ORDER", default_value = "address", value_parser = values::order)]
    pub order: OrderSource,
    /// When a node is too slow to be waited for.
    #[command(flatten)]
    pub slow: SlowArgs,
    /// Prints one JSON object at the end instead of a summary
    #[arg(long)]
    pub json: bool,
}

/// Exactly one source.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct SourceArgs {
    /// Sends a directory's tree
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Sends one file's bytes
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Sends what a shell command prints; its failure is the session's
    #[arg(long, value_name = "COMMAND")]
    pub command: Option<String>,
}

/// Runs `kactl send`.
///
/// # Errors
/// What stopped it, with the exit status that says so.
pub fn run(args: &SendArgs, config: &Config) -> Outcome {
    let keys = keys::load(args.keys.as_deref().unwrap_or(&config.directories.keys))?;
    let spec = SessionSpec {
        name: args.session.clone(),
        source: args.source.open()?,
        wanted: usize::try_from(args.nodes_wanted.get())?,
        gate: Gate::First,
        plan: None,
        timeout: args.timeout,
        log: None,
        window: window::default_size(),
        dead_after: args.dead_after,
        rounds: args.rounds.get(),
        order: args.order.read()?,
        slow: args.slow.limits(),
    };
    let hub = Hub::start(&Place::new(config, args.listen), keys, vec![spec])?;
    log::info!("the session {} waits for {} nodes on port {}", args.session, args.nodes_wanted, hub.port);
    let end = watch::until_over(&hub, &args.session, &mut Progress::start(args.json), |_| Ok(()))?;
    watch::report(&end, args.json)
}

impl SourceArgs {
    /// Checks what can be checked before anybody waits.
    fn open(&self) -> anyhow::Result<Arc<dyn Source>> {
        match (&self.dir, &self.file, &self.command) {
            (Some(dir), ..) => {
                ensure!(dir.is_dir(), "{} is not a directory", dir.display());
                Ok(Arc::new(DirectorySource(dir.clone())))
            }
            (_, Some(file), _) => {
                File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
                ensure!(!file.is_dir(), "{} is a directory; send it with --dir", file.display());
                Ok(Arc::new(FileSource(file.clone())))
            }
            (.., Some(command)) => Ok(Arc::new(CommandSource(command.clone()))),
            _ => bail!("nothing to send: use --dir, --file or --command"),
        }
    }
}
