//! `ka-agent console`: a node's port 12345.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::console::{self, Console, Limits, trace};
use crate::{init, node};
use ka::keys::JoinKey;
use ka::wire::CONSOLE_PORT;
use ka_host::terminal;
use ka_net::listen::Side;
use log::LevelFilter;
use simplelog::{ConfigBuilder, WriteLogger};

use super::NAME;

/// A node's settings are the defaults. Tests have others.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// The boot image's join key
    #[arg(long, value_name = "FILE", default_value = node::KEY_FILE)]
    join: PathBuf,
    /// The node's key of this boot
    #[arg(long, value_name = "FILE", default_value = trace::KEY)]
    key: PathBuf,
    /// The step that the node is at
    #[arg(long, value_name = "FILE", default_value = trace::STEP)]
    step: PathBuf,
    /// The log
    #[arg(long, value_name = "FILE", default_value = init::log::FILE)]
    log: PathBuf,
    /// Where commands run: the first root that is in use and has a shell
    #[arg(long, value_name = "DIR", default_values = ["/stage2", "/"])]
    root: Vec<PathBuf>,
    /// How long a viewer may be silent, in seconds
    #[arg(long, value_name = "SECONDS")]
    silence: Option<u64>,
}

/// How strongly the kernel prefers to kill the console rather than the work when memory runs out
/// (proc_pid_oom_score_adj(5)).
const EXPENDABLE: &str = "500";

pub(super) fn run(args: &Args) -> ExitCode {
    match serve(args) {
        Ok(never) => match never {},
        Err(error) => {
            log::error!("the console: {error}");
            terminal::complain(NAME, error);
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &Args) -> Result<std::convert::Infallible, String> {
    log_to(&args.log)?;
    let text = std::fs::read_to_string(&args.join).map_err(|e| format!("{}: {e}", args.join.display()))?;
    let join = JoinKey::from_text(&text).map_err(|e| format!("{}: {e}", args.join.display()))?;
    let mut limits = Limits::default();
    if let Some(seconds) = args.silence {
        limits.silence = Duration::from_secs(seconds);
    }
    let (side, port) = match args.listen {
        Some(address) => (Side { address: Some(address.ip()), interface: None }, address.port()),
        None => (Side::default(), CONSOLE_PORT),
    };
    let listener = side.listener(port).map_err(|e| format!("port {port}: {e}"))?;
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", EXPENDABLE) {
        log::debug!("the kernel takes the console for as important as the work: {error}");
    }
    let console = Console {
        join,
        key: args.key.clone(),
        step: args.step.clone(),
        log: args.log.clone(),
        roots: args.root.clone(),
        limits,
    };
    console::serve(console, &listener).map_err(|e| e.to_string())
}

/// A node's log goes to its consoles too.
fn log_to(path: &Path) -> Result<(), String> {
    if path == Path::new(init::log::FILE) {
        return init::log::start(LevelFilter::Info).map_err(|e| format!("cannot log: {e}"));
    }
    let file = File::options().create(true).append(true).open(path);
    let file = file.map_err(|e| format!("{}: {e}", path.display()))?;
    let config = ConfigBuilder::new().set_time_level(LevelFilter::Off).build();
    terminal::log_with(*WriteLogger::new(LevelFilter::Info, config, file), LevelFilter::Info);
    Ok(())
}
