//! The options of an unattended run.

#![allow(rustdoc::broken_intra_doc_links, reason = "brackets in help texts mean what may be left out")]

use std::path::PathBuf;
use std::time::Duration;

use ka::mac::Mac;

use crate::commands::power;
use crate::config::Config;
use crate::lists::hosts::Hosts;
use crate::lists::time_of_day::Moment;
use crate::power::Action;
use crate::values;
use crate::workflow::wake::Wake;

/// The options of an unattended run.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Unattended runs")]
pub struct NightArgs {
    /// Switch the machines of --nodes on, so that they boot from the network; 'on' leaves a machine that is
    /// already on alone, 'cycle' restarts it
    #[arg(long, value_name = "HOW", requires = "nodes")]
    pub power: Option<PowerChoice>,
    /// How long a machine that was switched on may take to appear before it is woken or restarted again
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = values::lasting)]
    pub power_retry: Duration,
    /// The file with BMCs and passwords (default: the configuration's)
    #[arg(long, value_name = "FILE")]
    pub bmc: Option<PathBuf>,
    /// Check everything now, and begin at this local time: 02:00, or '2026-12-01 02:00'
    #[arg(long, value_name = "TIME")]
    pub at: Option<Moment>,
    /// Run this shell command when nodes have failed, and at the end, with the report on its standard input
    /// and KA_EVENT, KA_RUN, KA_STATUS in its environment
    #[arg(long, value_name = "COMMAND")]
    pub notify: Option<String>,
}

/// The values of `--power`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PowerChoice {
    /// Only machines that are off
    On,
    /// All machines
    Cycle,
}

impl NightArgs {
    /// The machines to wake, if any.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn wake(&self, macs: &[Mac], hosts: &Hosts, config: &Config) -> anyhow::Result<Option<Wake>> {
        let Some(choice) = self.power else { return Ok(None) };
        let directory = power::directory(config, self.bmc.as_ref(), hosts)?;
        let targets = macs.iter().map(|mac| (*mac, directory.target(&mac.to_string()))).collect();
        let action = match choice {
            PowerChoice::On => Action::On,
            PowerChoice::Cycle => Action::Cycle,
        };
        Ok(Some(Wake { action, targets, retry: self.power_retry }))
    }
}
