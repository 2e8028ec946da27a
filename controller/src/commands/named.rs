//! Nodes named on the command line, and the connection to their consoles.

use std::time::Duration;

use anyhow::{Context, anyhow};
use ka::keys::JoinKey;
use ka::wire::CONSOLE_PORT;

use crate::config::{Config, keys};
use crate::console::dial::Dialler;
use crate::lists::node_set;
use crate::machines::find::{Found, find};
use crate::machines::store::Store;
use crate::rendezvous::lease;
use crate::values;

/// The connection to a console.
#[derive(Clone, Debug, clap::Args)]
pub struct DialArgs {
    /// How long a node may take to answer
    #[arg(long, value_name = "TIME", default_value = "10", value_parser = values::lasting)]
    pub patience: Duration,
    /// The nodes' port
    #[arg(long, value_name = "PORT", default_value_t = CONSOLE_PORT, hide = true)]
    pub port: u16,
}

/// The machines of a list.
///
/// # Errors
/// The list is invalid, or contains words that name no machine; all of them are listed.
pub(super) fn machines(list: &str, config: &Config) -> anyhow::Result<Vec<Found>> {
    let words = node_set::expand(list, &config.groups)?;
    let all = Store::of(&config.directories.state).all()?;
    let (found, faults): (Vec<_>, Vec<_>) =
        words.iter().map(|word| find(word, &all)).partition(Result::is_ok);
    let faults: Vec<String> = faults.into_iter().filter_map(Result::err).collect();
    if faults.is_empty() {
        return Ok(found.into_iter().flatten().collect());
    }
    Err(anyhow!("{}", faults.join("\n")))
}

/// The one machine that a word names.
///
/// # Errors
/// As for [`machines`]; also if the word names several machines.
pub(super) fn machine(word: &str, config: &Config) -> anyhow::Result<Found> {
    let mut all = machines(word, config)?;
    match (all.pop(), all.len()) {
        (Some(one), 0) => Ok(one),
        (_, more) => Err(anyhow!("'{word}' names {} machines, and one is needed", more + 1)),
    }
}

/// Creates the connector for consoles: with the controller's key, and, for the log of machines that have not
/// joined yet, with all join secrets that they may have booted with.
///
/// # Errors
/// The keys or the leases cannot be read.
pub(super) fn dialler(args: &DialArgs, config: &Config) -> anyhow::Result<Dialler> {
    let keys = keys::load(&config.directories.keys)?;
    let leases = lease::alive(&config.directories.runs()).context("cannot read the runs' keys")?;
    let of_runs = leases.iter().filter_map(|(_, lease)| JoinKey::from_text(lease.join.as_deref()?).ok());
    let joins = of_runs.chain([keys.join.clone()]).collect();
    Ok(Dialler { pair: keys.controller.clone(), joins, port: args.port, patience: args.patience })
}
