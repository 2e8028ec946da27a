//! One file a subcommand.

mod ask_again;
pub mod desc;
mod gather;
pub mod go;
pub mod image;
pub mod init;
pub mod pxe;
pub mod run;
pub mod send;
pub mod stream;
mod watch;

use crate::cli::exit::{Exit, Outcome};
use crate::cli::{Cli, Command};
use crate::config::Config;
use ka_agent::terminal;

/// Runs the subcommand that was asked for.
///
/// # Errors
/// What stopped it, with the exit status that says so.
pub fn run(cli: &Cli) -> Outcome {
    let config = || Config::load(&cli.config);
    match &cli.command {
        Command::Desc(args) => {
            desc::run(args, &mut terminal::data())?;
            Ok(Exit::Ok)
        }
        Command::Go(args) => go::run(args, &config()?),
        Command::Image(args) => {
            image::run(args, &image::Places::of(&config()?.directories))?;
            Ok(Exit::Ok)
        }
        Command::Init(args) => init::run(args, &cli.config),
        Command::Pxe(args) => pxe::run(args, &config()?),
        Command::Run(args) => run::run(args, &config()?),
        Command::Send(args) => send::run(args, &config()?),
    }
}
