//! The options of `kactl run`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use super::boot::BootArgs;
use super::disks::DiskArgs;
use super::identity::IdentityArgs;
use super::stream::StreamArgs;
use crate::golden::hooks::HookArgs;
use crate::{log_server, values};

/// Options of `kactl run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// How many nodes to wait for
    #[arg(short = 'n', value_name = "N")]
    pub nodes_wanted: NonZeroU32,
    /// The disks.
    #[command(flatten)]
    pub disks: DiskArgs,
    /// Copies this partition as it is, byte by byte; one that is mounted only if read-only or frozen (repeatable)
    #[arg(short = 'D', value_name = "PART", value_parser = values::partition)]
    pub raw: Vec<String>,
    /// Scales fixed sizes by what a node's disk has of this machine's; not those of boot partitions and swap
    #[arg(long)]
    pub scale: bool,
    /// Keeps the UUIDs of file systems, partitions and disks, instead of fresh ones
    #[arg(long)]
    pub keep_uuids: bool,
    /// Leaves out what is in this directory; the directory itself is copied (repeatable)
    #[arg(short = 'x', value_name = "DIR", value_parser = values::directory)]
    pub exclude_dirs: Vec<PathBuf>,
    /// Leaves out this disk, here and on the nodes: sdb, or 'sdb|sdc' (repeatable)
    #[arg(short = 'X', value_name = "DISK", value_delimiter = '|', value_parser = values::disk)]
    pub exclude_disks: Vec<String>,
    /// How the nodes are made to boot.
    #[command(flatten)]
    pub boot: BootArgs,
    /// Who the nodes become.
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// A site's commands around the reading.
    #[command(flatten)]
    pub hooks: HookArgs,
    /// Has the nodes put their logs there, too: http://HOST[:PORT]/DIRECTORY, or ftp://[USER:PASSWORD@]HOST/DIRECTORY
    #[arg(long, value_name = "URL", value_parser = log_server::parse)]
    pub store_log: Option<String>,
    /// The machines that may be erased: a file with a hardware address on each line
    #[arg(long, value_name = "FILE", conflicts_with = "yes")]
    pub nodes: Option<PathBuf>,
    /// Erases the first N machines that arrive, without asking
    #[arg(long)]
    pub yes: bool,
    /// Asks for each machine's code, which its own screen shows, and erases none whose code is another
    #[arg(long, conflicts_with = "yes")]
    pub confirm_codes: bool,
    /// Shows what would be erased and written on every node that waits, writes nothing, and sends them away
    #[arg(long)]
    pub dry_run: bool,
    /// The session's name
    #[arg(long, value_name = "NAME", default_value = "kainstall", value_parser = values::name)]
    pub session: String,
    /// How the stream is held.
    #[command(flatten)]
    pub stream: StreamArgs,
}

impl RunArgs {
    /// How many nodes to wait for.
    ///
    /// # Errors
    /// This machine cannot count so far.
    pub fn wanted(&self) -> anyhow::Result<usize> {
        Ok(usize::try_from(self.nodes_wanted.get())?)
    }
}
