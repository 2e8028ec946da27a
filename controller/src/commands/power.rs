//! `kactl power`: switches machines on and off.

use std::path::PathBuf;

use anyhow::Context;
use ka_host::terminal;

use crate::config::Config;
use crate::config::bmc::Bmcs;
use crate::exit::{CommandResult, Exit};
use crate::lists::hosts::Hosts;
use crate::lists::node_set;
use crate::machines::store::Store;
use crate::power::target::{Directory, Target};
use crate::power::{Action, PowerError, State, many};

/// Options of `kactl power`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without a [[bmc]] in /etc/ka/bmc.toml a machine is woken by its card (Wake-on-LAN).

Exit status: 0 if it worked for all, 1 if not; each machine for which it did not is named with the reason.

Example: kactl power on --network node[001-120]")]
pub struct PowerArgs {
    /// Action: on, off (immediately, without a system shutdown), cycle, or status
    #[arg(value_name = "ACTION")]
    pub action: ActionChoice,
    /// The machines: names, hardware addresses, node[001-120], @group, separated by commas
    pub nodes: String,
    /// Boot from the network at the next boot only, if the BMC supports it
    #[arg(long)]
    pub network: bool,
    /// The file with BMCs and passwords (default: the configuration's)
    #[arg(long, value_name = "FILE")]
    pub bmc: Option<PathBuf>,
}

/// The actions of `kactl power`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ActionChoice {
    /// Switch on
    On,
    /// Switch off
    Off,
    /// Switch off and on
    Cycle,
    /// Print the power state
    Status,
}

impl ActionChoice {
    fn action(self) -> Action {
        match self {
            Self::On => Action::On,
            Self::Off => Action::Off,
            Self::Cycle => Action::Cycle,
            Self::Status => Action::Status,
        }
    }
}

/// Everything known about machines and their BMCs; `hosts` is an additional table of names.
///
/// # Errors
/// A file cannot be read.
pub(super) fn directory(config: &Config, bmc: Option<&PathBuf>, hosts: &Hosts) -> anyhow::Result<Directory> {
    let bmcs = Bmcs::load(bmc.unwrap_or(&config.directories.bmc), &config.groups)?;
    let own = bmcs.hosts.as_ref().map(|path| Hosts::read(path)).transpose()?;
    let tables: Vec<Hosts> = [hosts.clone()].into_iter().chain(own).collect();
    let records = Store::of(&config.directories.state).all().context("cannot read the machines")?;
    let interface = config.net.interface.clone().or_else(|| config.pxe.interface.clone());
    Ok(Directory::new(records, &tables, bmcs, interface))
}

/// Runs `kactl power`.
///
/// # Errors
/// The list of nodes or the configuration is invalid.
pub fn run(args: &PowerArgs, config: &Config) -> CommandResult {
    let words = node_set::expand(&args.nodes, &config.groups)?;
    let directory = directory(config, args.bmc.as_ref(), &Hosts::default())?;
    let targets: Vec<Target> = words.iter().map(|word| directory.target(word)).collect();
    let outcomes = many::act_on_all(&targets, args.action.action(), args.network, tell);
    Ok(if outcomes.iter().all(Result::is_ok) { Exit::Ok } else { Exit::NodesFailed })
}

fn tell(target: &Target, outcome: &Result<State, PowerError>) {
    match outcome {
        Ok(state) => terminal::say(format_args!("{}: {}", target.label, state.name())),
        Err(error) => terminal::complain("kactl", format_args!("{}: {error}", target.label)),
    }
}
