//! `kactl go`: starts a waiting session with the nodes that are there.

use anyhow::anyhow;

use crate::config::Config;
use crate::exit::{CommandResult, Exit};
use crate::rendezvous::go;
use crate::values;

/// Options of `kactl go`.
#[derive(Debug, clap::Args)]
pub struct GoArgs {
    /// The session of a 'kactl run' or 'kactl send' on this machine
    #[arg(value_name = "SESSION", value_parser = values::name)]
    pub session: String,
}

/// Runs `kactl go`.
///
/// # Errors
/// No such session waits, with status 2.
pub fn run(args: &GoArgs, config: &Config) -> CommandResult {
    go::go(&config.directories.run.join("sessions"), &args.session).map_err(|e| anyhow!(e))?;
    Ok(Exit::Ok)
}
