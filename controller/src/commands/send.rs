//! `kactl send`: sends files to hosts that run already.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::exit::Outcome;
use crate::cli::values::{self, Listen};
use crate::config::Config;

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
pub fn run(_args: &SendArgs, _config: &Config) -> Outcome {
    Err(anyhow::anyhow!("kactl send is not built yet").into())
}
