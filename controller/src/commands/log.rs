//! `kactl log`: shows a node's log.

use anyhow::Context;
use ka_host::terminal;

use super::named::{self, DialArgs};
use crate::config::Config;
use crate::console::log;
use crate::exit::{CommandResult, Exit};

/// Options of `kactl log`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kactl log --follow node007")]
pub struct LogArgs {
    /// The node: its name, hardware address or address
    pub node: String,
    /// Follow the log until the node reboots
    #[arg(short, long)]
    pub follow: bool,
    /// Show only the last BYTES of the log
    #[arg(long, value_name = "BYTES")]
    pub last: Option<u64>,
    /// The connection to the node.
    #[command(flatten)]
    pub dial: DialArgs,
}

/// Runs `kactl log`.
///
/// # Errors
/// The node cannot be reached, or does not prove to be the intended one.
pub fn run(args: &LogArgs, config: &Config) -> CommandResult {
    let machine = named::machine(&args.node, config)?;
    let dialler = named::dialler(&args.dial, config)?;
    log::show(&dialler, &machine, args.last, args.follow, &mut terminal::data())
        .with_context(|| machine.label())?;
    Ok(Exit::Ok)
}
