//! The options of `kactl run`.

#![allow(rustdoc::broken_intra_doc_links, reason = "brackets in help texts mean what may be left out")]

use std::num::NonZeroU32;
use std::path::PathBuf;

use super::boot::BootArgs;
use super::disks::{DISKS, DiskArgs};
use super::hooks::HookArgs;
use super::identity::IdentityArgs;
use super::night::NightArgs;
use super::stream::StreamArgs;
use crate::golden::plan::WantedSize;
use crate::{log_server, values};

const AFTER: &str = "\
Examples:
  kactl run -n 1 -p sda                  clone the first machine, after a question
  kactl run -p sda --nodes rack1.macs    clone the machines of a list
  kactl run -n 3 -p sda --dry-run        show what would be erased, write nothing
  kactl run -n 3 -p sda=sda.desc -x /tmp partition as sda.desc says, leave /tmp empty

Exit status:
  0  every node is complete
  1  nodes failed; each is named with its reason
  2  an error before anything began
  3  this machine could not be read to the end";

/// Options of `kactl run`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Nodes", after_help = AFTER)]
pub struct RunArgs {
    /// Take the options of [profile.NAME] in the configuration; options given here take precedence
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// How many nodes to wait for (default: all machines of --nodes)
    #[arg(short = 'n', long = "count", value_name = "N", required_unless_present = "nodes")]
    pub nodes_wanted: Option<NonZeroU32>,
    /// Also serve DHCP, TFTP and HTTP on this interface during the run, as 'kactl pxe --interface IF' does
    #[arg(long, value_name = "IF")]
    pub pxe: Option<String>,
    /// Erase only these machines: a file with one MAC address per line ('-' reads it from standard input),
    /// or a list of MAC addresses, names in --hosts and known machines, such as node[001-120] or @group
    #[arg(long, value_name = "FILE|LIST", conflicts_with = "yes")]
    pub nodes: Option<PathBuf>,
    /// Erase the first N machines that arrive, without asking
    #[arg(short, long)]
    pub yes: bool,
    /// Ask for the code on each machine's screen, and erase only machines whose code matches
    #[arg(long, conflicts_with = "yes")]
    pub confirm_codes: bool,
    /// Show what would be erased and written on each waiting node, write nothing, and let them boot their
    /// disks
    #[arg(long)]
    pub dry_run: bool,
    /// The session's name
    #[arg(short, long, value_name = "NAME", default_value = "kainstall", value_parser = values::name)]
    pub session: String,
    /// The disks.
    #[command(flatten)]
    pub disks: DiskArgs,
    /// Copy this partition byte by byte; if mounted, it must be read-only or frozen (repeatable)
    #[arg(short = 'D', long, value_name = "PART", value_parser = values::partition, help_heading = DISKS)]
    pub raw: Vec<String>,
    /// Scale fixed sizes to each node's disk; boot partitions and swap keep theirs
    #[arg(long, help_heading = DISKS)]
    pub scale: bool,
    /// Size of a logical volume on the nodes: VG/LV=20G, 25%, scaled, fill or fill*N (repeatable)
    #[arg(long, value_name = "VG/LV=SIZE", help_heading = DISKS)]
    pub lv: Vec<WantedSize>,
    /// Keep the UUIDs of file systems, partitions and disks instead of creating new ones
    #[arg(long, help_heading = DISKS)]
    pub keep_uuids: bool,
    /// Leave out the contents of this directory; the directory itself is copied (repeatable)
    #[arg(short = 'x', long = "exclude", value_name = "DIR", value_parser = values::directory, help_heading = DISKS)]
    pub exclude_dirs: Vec<PathBuf>,
    /// Leave out this disk, here and on the nodes: sdb, or 'sdb|sdc' (repeatable)
    #[arg(
        short = 'X',
        long = "exclude-disk",
        value_name = "DISK",
        value_delimiter = '|',
        value_parser = values::disk,
        help_heading = DISKS
    )]
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
    #[arg(long, value_name = "URL", value_parser = log_server::parse, help_heading = "Reports")]
    pub store_log: Option<String>,
    /// The user's password for that server: the first line of a file that other users cannot read
    #[arg(long, value_name = "FILE", requires = "store_log", help_heading = "Reports")]
    pub store_log_password: Option<PathBuf>,
    /// The options of an unattended run.
    #[command(flatten)]
    pub night: NightArgs,
    /// The stream's settings.
    #[command(flatten)]
    pub stream: StreamArgs,
}
