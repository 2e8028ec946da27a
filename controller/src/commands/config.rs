//! `kactl config`: checks or shows the configuration.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use ka_host::terminal;

use crate::config::bmc::Bmcs;
use crate::config::{Config, show};
use crate::exit::{CommandResult, Exit};

/// Options of `kactl config`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status:
  0  the configuration can be used
  2  it cannot; every error has its file, line and column

Examples:
  kactl config check            after an edit
  kactl config show             every setting in effect, defaults included")]
pub struct ConfigArgs {
    /// The subcommand.
    #[command(subcommand)]
    pub action: Action,
}

/// The subcommands of `kactl config`.
#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub enum Action {
    /// Report every error in ka.toml and in the file of BMCs
    Check,
    /// Print every setting in effect, as TOML
    Show,
}

/// Runs `kactl config`.
///
/// # Errors
/// The configuration cannot be used.
pub fn run(args: &ConfigArgs, file: &Path) -> CommandResult {
    let config = Config::load(file)?;
    match args.action {
        Action::Check => check(&config, file)?,
        Action::Show => {
            let text = show::text(file)?;
            terminal::data().write_all(text.as_bytes()).context("cannot print the configuration")?;
        }
    }
    Ok(Exit::Ok)
}

fn check(config: &Config, file: &Path) -> anyhow::Result<()> {
    let bmc = &config.directories.bmc;
    Bmcs::load(bmc, &config.groups)?;
    for file in [file, bmc] {
        let state = if file.exists() { "ok" } else { "not there: the defaults apply" };
        terminal::say(format_args!("{}: {state}", file.display()));
    }
    Ok(())
}
