//! `kactl resume`: continues a run whose process ended unexpectedly.

use std::env;

use anyhow::{Context, bail};
use ka::session::Ending;

use crate::config::Config;
use crate::journal::Recorded;

/// Options of `kactl resume`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kactl resume kainstall    continue this session's last run")]
pub struct ResumeArgs {
    /// The run: the name of its directory, as kainstall-3, or of its session, for that session's last run
    #[arg(value_name = "RUN")]
    pub run: String,
}

/// Opens the run, and changes to its original working directory, so that the paths on its command line are
/// valid again.
///
/// # Errors
/// The run cannot be resumed, or has ended.
pub fn open(args: &ResumeArgs, config: &Config) -> anyhow::Result<Recorded> {
    let recorded = Recorded::open(&config.directories.journals(), &args.run)?;
    let run = recorded.directory.display();
    match recorded.book().ending() {
        None => {}
        Some(Ending::Served) => bail!("{run} has ended: nothing is left to do"),
        Some(Ending::SourceFailed(reason)) => bail!("{run} has ended: {reason}; start a new run"),
        Some(Ending::Nobody) => bail!("{run} has ended: no node came in time; start a new run"),
        Some(Ending::Stopped) => bail!("{run} was stopped; start a new run"),
    }
    let directory = &recorded.header.directory;
    env::set_current_dir(directory)
        .with_context(|| format!("{run} was started in {}, which cannot be entered", directory.display()))?;
    Ok(recorded)
}
