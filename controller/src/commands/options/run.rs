//! The options of `kactl run`.

#![allow(rustdoc::broken_intra_doc_links, reason = "brackets in help texts mean what may be left out")]

use std::num::NonZeroU32;
use std::path::PathBuf;

use super::boot::BootArgs;
use super::disks::DiskArgs;
use super::hooks::HookArgs;
use super::identity::IdentityArgs;
use super::night::NightArgs;
use super::stream::StreamArgs;
use crate::golden::plan::WantedSize;
use crate::{log_server, values};

/// Options of `kactl run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Take the options of [profile.NAME] in the configuration; options given here take precedence
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// How many nodes to wait for
    #[arg(short = 'n', value_name = "N")]
    pub nodes_wanted: NonZeroU32,
    /// The disks.
    #[command(flatten)]
    pub disks: DiskArgs,
    /// Copy this partition byte by byte; if mounted, it must be read-only or frozen (repeatable)
    #[arg(short = 'D', value_name = "PART", value_parser = values::partition)]
    pub raw: Vec<String>,
    /// Scale fixed sizes to each node's disk; boot partitions and swap keep theirs
    #[arg(long)]
    pub scale: bool,
    /// Size of a logical volume on the nodes: VG/LV=20G, 25%, scaled, fill or fill*N (repeatable)
    #[arg(long, value_name = "VG/LV=SIZE")]
    pub lv: Vec<WantedSize>,
    /// Keep the UUIDs of file systems, partitions and disks instead of creating new ones
    #[arg(long)]
    pub keep_uuids: bool,
    /// Leave out the contents of this directory; the directory itself is copied (repeatable)
    #[arg(short = 'x', value_name = "DIR", value_parser = values::directory)]
    pub exclude_dirs: Vec<PathBuf>,
    /// Leave out this disk, here and on the nodes: sdb, or 'sdb|sdc' (repeatable)
    #[arg(short = 'X', value_name = "DISK", value_delimiter = '|', value_parser = values::disk)]
    pub exclude_disks: Vec<String>,
    /// The options for booting the nodes.
    #[command(flatten)]
    pub boot: BootArgs,
    /// The nodes' identities.
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// A site's commands around the reading.
    #[command(flatten)]
    pub hooks: HookArgs,
    /// Also store the nodes' logs there: http://HOST[:PORT]/DIRECTORY, or ftp://[USER@]HOST/DIRECTORY
    #[arg(long, value_name = "URL", value_parser = log_server::parse)]
    pub store_log: Option<String>,
    /// The user's password for that server: the first line of a file that other users cannot read
    #[arg(long, value_name = "FILE", requires = "store_log")]
    pub store_log_password: Option<PathBuf>,
    /// Erase only these machines: a file with one MAC address per line ('-' reads it from standard input),
    /// or a list of MAC addresses, names in --hosts and known machines, such as node[001-120] or @group
    #[arg(long, value_name = "FILE|LIST", conflicts_with = "yes")]
    pub nodes: Option<PathBuf>,
    /// Erase the first N machines that arrive, without asking
    #[arg(long)]
    pub yes: bool,
    /// Ask for the code on each machine's screen, and erase only machines whose code matches
    #[arg(long, conflicts_with = "yes")]
    pub confirm_codes: bool,
    /// Show what would be erased and written on each waiting node, write nothing, and let them boot their
    /// disks
    #[arg(long)]
    pub dry_run: bool,
    /// The session's name
    #[arg(long, value_name = "NAME", default_value = "kainstall", value_parser = values::name)]
    pub session: String,
    /// The options of an unattended run.
    #[command(flatten)]
    pub night: NightArgs,
    /// The stream's settings.
    #[command(flatten)]
    pub stream: StreamArgs,
}
