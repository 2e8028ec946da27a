//! `kactl machines`: lists every machine that ever joined a run, and forgets their TPMs.

use std::io::Write;

use anyhow::{Context, anyhow};
use ka::shown;
use ka_host::terminal;

use crate::config::Config;
use crate::exit::{CommandResult, Exit};
use crate::lists::node_set;
use crate::machines::find::find;
use crate::machines::record::{Record, now};
use crate::machines::store::Store;
use crate::view::inventory;

/// Options of `kactl machines`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kactl machines                     list all of them
  kactl machines show node[001-003]  show everything known about these")]
pub struct MachinesArgs {
    /// Print JSON, one machine per line
    #[arg(long, global = true)]
    pub json: bool,
    /// The subcommand, if not a list.
    #[command(subcommand)]
    pub other: Option<Other>,
}

/// The subcommands of `kactl machines`.
#[derive(Debug, clap::Subcommand)]
pub enum Other {
    /// Show everything known about machines
    Show {
        /// Names, hardware addresses, addresses, node[001-120], @group, separated by commas
        nodes: String,
    },
    /// Let machines join with another TPM, or with none; the next clone pins them again
    Unpin {
        /// Names, hardware addresses, addresses, node[001-120], @group, separated by commas
        nodes: String,
    },
}

/// Runs `kactl machines`.
///
/// # Errors
/// The files cannot be read, or a machine is unknown.
pub fn run(args: &MachinesArgs, config: &Config) -> CommandResult {
    let store = Store::of(&config.directories.state);
    let all = store.all()?;
    if let Some(Other::Unpin { nodes }) = &args.other {
        return unpin(&store, &named(nodes, &all, config)?);
    }
    let (shown, details) = match &args.other {
        None | Some(Other::Unpin { .. }) => (all, false),
        Some(Other::Show { nodes }) => (named(nodes, &all, config)?, true),
    };
    let out = &mut terminal::out();
    let printed = if args.json {
        shown.iter().try_for_each(|record| {
            let text = serde_json::to_string(record)?;
            writeln!(out, "{}", ka::shown::json(&text))
        })
    } else if details {
        inventory::details(out, &shown, now())
    } else {
        inventory::table(out, &shown, now())
    };
    printed.context("cannot print the machines")?;
    Ok(Exit::Ok)
}

/// Forgets the TPMs of these machines.
fn unpin(store: &Store, machines: &[Record]) -> CommandResult {
    let out = &mut terminal::out();
    for machine in machines {
        let label = shown::field(&machine.label());
        store.change(machine.mac, now(), |record| record.tpm = None)?;
        let said = if machine.tpm.is_some() {
            "the next run takes it with any TPM, or none"
        } else {
            "is not pinned to a TPM"
        };
        writeln!(out, "{label}: {said}").context("cannot print")?;
    }
    Ok(Exit::Ok)
}

fn named(list: &str, all: &[Record], config: &Config) -> anyhow::Result<Vec<Record>> {
    let words = node_set::expand(list, &config.groups)?;
    words
        .iter()
        .map(|word| {
            let found = find(word, all).map_err(|why| anyhow!(why))?;
            found.record.ok_or_else(|| anyhow!("{word}: this machine was never seen"))
        })
        .collect()
}
