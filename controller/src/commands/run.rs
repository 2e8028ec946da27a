//! `kactl run`: clones this machine onto N nodes.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ka::plan::BootPlan;

use crate::cli::exit::Outcome;
use crate::cli::values::{self, Listen};
use crate::config::Config;

/// Options of `kactl run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// How many nodes to wait for
    #[arg(short = 'n', value_name = "N")]
    pub nodes_wanted: NonZeroU32,
    /// The nodes' disk to erase, and this machine's disk to copy
    #[arg(short = 'p', value_name = "DISK", value_parser = values::disk)]
    pub disk: String,
    /// How to partition it: a file as `kactl desc` writes it
    pub desc: PathBuf,
    /// Leaves out what is in this directory; the directory itself is copied (repeatable)
    #[arg(short = 'x', value_name = "DIR", value_parser = values::directory)]
    pub exclude_dirs: Vec<PathBuf>,
    /// Leaves out the file systems of this disk: sdb, or 'sdb|sdc' (repeatable)
    #[arg(short = 'X', value_name = "DISK", value_delimiter = '|', value_parser = values::disk)]
    pub exclude_disks: Vec<String>,
    /// Boot loader, and modules that the initrd must have: 'grub --with=MODULE ...', or none
    #[arg(short = 'r', value_name = "LOADER", default_value = "grub", value_parser = values::boot_loader)]
    pub boot: BootPlan,
    /// The machines that may be erased: a file with a hardware address on each line
    #[arg(long, value_name = "FILE", conflicts_with = "yes")]
    pub nodes: Option<PathBuf>,
    /// Erases the first N machines that arrive, without asking
    #[arg(long)]
    pub yes: bool,
    /// The session's name
    #[arg(long, value_name = "NAME", default_value = "kainstall", value_parser = values::name)]
    pub session: String,
    /// How long to wait for N nodes: seconds, or 10m, 2h; then goes on with those that are there
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub timeout: Option<Duration>,
    /// Address, and control port, to listen on instead of all addresses
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = values::listen)]
    pub listen: Option<Listen>,
    /// Prints one JSON object at the end instead of a summary
    #[arg(long)]
    pub json: bool,
}

/// Runs `kactl run`.
///
/// # Errors
/// What stopped it, with the exit status that says so.
pub fn run(_args: &RunArgs, _config: &Config) -> Outcome {
    Err(anyhow::anyhow!("kactl run is not built yet").into())
}
