//! `kactl go`: starts a waiting session with the nodes present.

use anyhow::anyhow;

use crate::config::Config;
use crate::exit::{CommandResult, Exit};
use crate::rendezvous::go;
use crate::values;

/// Options of `kactl go`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kactl go              start the only session that waits
  kactl go kainstall    start this one")]
pub struct GoArgs {
    /// The session of a 'kactl run' or 'kactl send' on this machine; not needed if only one waits
    #[arg(value_name = "SESSION", value_parser = values::name)]
    pub session: Option<String>,
}

/// Runs `kactl go`.
///
/// # Errors
/// The session is not waiting; the exit status is 2.
pub fn run(args: &GoArgs, config: &Config) -> CommandResult {
    let directory = config.directories.run.join("sessions");
    let session = match &args.session {
        Some(session) => session.clone(),
        None => go::only(&directory)?,
    };
    go::go(&directory, &session).map_err(|e| anyhow!(e))?;
    Ok(Exit::Ok)
}
