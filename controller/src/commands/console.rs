//! `kactl console`: a shell on a node.

use anyhow::Context;
use ka_host::terminal;

use super::named::{self, DialArgs};
use crate::config::Config;
use crate::console::shell::{self, Left};
use crate::exit::{CommandResult, Exit};
use crate::journal::commands::{self, What};

/// Options of `kactl console`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: the shell's; 0 if it was left by the escape key, which ends it.")]
pub struct ConsoleArgs {
    /// The node: its name, hardware address or address
    pub node: String,
    /// The key that leaves the shell: ^] or another control key, or none
    #[arg(long, value_name = "KEY", default_value = "^]", value_parser = escape)]
    pub escape: Escape,
    /// The connection to the node.
    #[command(flatten)]
    pub dial: DialArgs,
}

/// The value of `--escape`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escape(Option<u8>);

fn escape(text: &str) -> Result<Escape, String> {
    shell::escape(text).map(Escape)
}

/// Runs `kactl console`.
///
/// # Errors
/// The node cannot be reached, or does not prove to be the intended one.
pub fn run(args: &ConsoleArgs, config: &Config) -> CommandResult {
    let machine = named::machine(&args.node, config)?;
    let dialler = named::dialler(&args.dial, config)?;
    let runs = config.directories.journals();
    commands::note(&runs, &machine, What::Opens);
    let left = shell::hold(&dialler, &machine, args.escape.0);
    let how = match &left {
        Ok(Left::Ended(end)) => format!("exit status {}", end.status()),
        Ok(Left::Escaped) => "left".to_owned(),
        Ok(Left::Stopped(signal)) => format!("kactl was ended by {signal}"),
        Err(error) => error.to_string(),
    };
    commands::note(&runs, &machine, What::Ended { how: &how });
    let left = left.with_context(|| machine.label())?;
    Ok(match left {
        Left::Ended(end) if end.status() > 0 => Exit::Of(end.status()),
        Left::Ended(_) => Exit::Ok,
        Left::Escaped => {
            terminal::complain("kactl", "the shell was left");
            Exit::Ok
        }
        Left::Stopped(signal) => {
            terminal::complain("kactl", format_args!("ended by {signal}"));
            Exit::Of(u8::try_from(signal as i32).map_or(255, |number| number.saturating_add(128)))
        }
    })
}
