//! `kactl exec`: runs a command on nodes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::sync::Mutex;

use ka::wire::console::End;
use ka_host::terminal;

use super::named::{self, DialArgs};
use crate::config::Config;
use crate::console::exec::{self, Outputs};
use crate::exit::{CommandResult, Exit};
use crate::journal::commands::{self, What};
use crate::lists::node_set;

/// The maximum number of nodes at the same time: each needs a thread.
const AT_ONCE: usize = 64;

/// Options of `kactl exec`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: the worst of all nodes; 255 for a node on which the command did not run to its end.

Example: kactl exec node[001-120] -- dmesg -l err")]
pub struct ExecArgs {
    /// The nodes: names, hardware addresses, addresses, node[001-120], @group, separated by commas
    pub nodes: String,
    /// The command; several words are joined with spaces and passed to the node's shell
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// Omit the node's name before each line
    #[arg(long)]
    pub no_prefix: bool,
    /// The connection to the nodes.
    #[command(flatten)]
    pub dial: DialArgs,
}

/// Runs `kactl exec`.
///
/// # Errors
/// Some nodes are unknown.
pub fn run(args: &ExecArgs, config: &Config) -> CommandResult {
    let machines = named::machines(&args.nodes, config)?;
    let dialler = named::dialler(&args.dial, config)?;
    let words: Vec<&[u8]> = args.command.iter().map(|word| word.as_bytes()).collect();
    let (command, runs) = (words.join(&b' '), config.directories.journals());
    for machine in &machines {
        let command = &String::from_utf8_lossy(&command);
        commands::note(&runs, machine, What::Executes { command });
    }
    let outputs = Outputs {
        out: Mutex::new(terminal::data()),
        err: Mutex::new(Box::new(terminal::err())),
        prefix: !args.no_prefix,
    };
    let outcomes = exec::run(&dialler, &machines, &command, AT_ONCE, &outputs);
    let mut ends: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (machine, outcome) in machines.iter().zip(&outcomes) {
        let how = match &outcome.end {
            Ok(End::Whole) => "exit status 0".to_owned(),
            Ok(End::Exited(status)) => format!("exit status {status}"),
            Ok(End::Killed(signal)) => format!("ended by signal {signal}"),
            Err(error) => error.to_string(),
        };
        commands::note(&runs, machine, What::Ended { how: &how });
        if !matches!(outcome.end, Ok(End::Whole | End::Exited(0))) {
            ends.entry(how).or_default().push(&outcome.label);
        }
    }
    for (why, labels) in ends {
        terminal::complain("kactl", format_args!("{}: {why}", node_set::fold(labels)));
    }
    Ok(match outcomes.iter().map(exec::ExecResult::status).max() {
        None | Some(0) => Exit::Ok,
        Some(worst) => Exit::Of(worst),
    })
}
