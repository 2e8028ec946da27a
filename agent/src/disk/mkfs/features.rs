//! The features of a file system as the options of its tool.
//!
//! The plan lists what the golden file system has; what it has not is turned off, since a newer tool's
//! defaults may be more than the copied system's kernel or boot loader can read. A tool is asked for the
//! names that it knows, as an older one stops at a newer name.

use ka::plan::FileSystemKind;
use ka_host::tool;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a tool may take to print its usage.
const LIMIT: Duration = Duration::from_secs(20);

/// Features of ext that mke2fs can set; the others tell a state (`needs_recovery`, `orphan_present`), or
/// need more than a name.
const EXT: [&str; 31] = [
    "64bit",
    "bigalloc",
    "casefold",
    "dir_index",
    "dir_nlink",
    "ea_inode",
    "encrypt",
    "ext_attr",
    "extent",
    "extra_isize",
    "fast_commit",
    "filetype",
    "flex_bg",
    "has_journal",
    "huge_file",
    "inline_data",
    "large_dir",
    "large_file",
    "meta_bg",
    "metadata_csum",
    "metadata_csum_seed",
    "mmp",
    "orphan_file",
    "project",
    "quota",
    "resize_inode",
    "sparse_super",
    "sparse_super2",
    "stable_inodes",
    "uninit_bg",
    "verity",
];

/// Features of XFS in the order in which they depend on each other, with mkfs.xfs's option for each.
const XFS: [(&str, &str); 12] = [
    ("crc", "-m"),
    ("finobt", "-m"),
    ("rmapbt", "-m"),
    ("reflink", "-m"),
    ("inobtcount", "-m"),
    ("bigtime", "-m"),
    ("metadir", "-m"),
    ("sparse", "-i"),
    ("nrext64", "-i"),
    ("exchange", "-i"),
    ("ftype", "-n"),
    ("parent", "-n"),
];

/// Features of btrfs that concern a file system on one device.
const BTRFS: [&str; 7] = [
    "extref",
    "skinny-metadata",
    "no-holes",
    "free-space-tree",
    "block-group-tree",
    "mixed-bg",
    "raid-stripe-tree",
];

/// What the tools know.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// What mkfs.xfs prints as its usage.
    xfs: String,
    /// What mkfs.btrfs lists for `-O`.
    btrfs: String,
    /// What mkfs.btrfs lists for `-R`; newer ones list all for `-O`.
    runtime: String,
}

impl Known {
    /// Asks the tool of this kind.
    pub(super) fn ask(kind: FileSystemKind) -> Self {
        match kind {
            FileSystemKind::Xfs => Self { xfs: output("mkfs.xfs", &[]), ..Self::default() },
            FileSystemKind::Btrfs => Self {
                btrfs: output("mkfs.btrfs", &["-O", "list-all"]),
                runtime: output("mkfs.btrfs", &["-R", "list-all"]),
                ..Self::default()
            },
            _ => Self::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn of(xfs: &str, btrfs: &str, runtime: &str) -> Self {
        Self { xfs: xfs.to_owned(), btrfs: btrfs.to_owned(), runtime: runtime.to_owned() }
    }
}

/// All that a program prints; nothing if it cannot be run, which its real run will tell.
fn output(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null());
    tool::output(&mut command, LIMIT).map_or_else(
        |_| String::new(),
        |output| {
            let (out, errors) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            format!("{out}\n{errors}")
        },
    )
}

/// Where a program is, if it is in the path.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// For `mke2fs -O`: these features and no others, on so many blocks.
pub(super) fn ext(features: &[String], blocks: u64) -> String {
    let is_huge = blocks > u64::from(u32::MAX);
    // What has more blocks than 32 bits can count needs the one, and cannot have the other.
    let wanted = features
        .iter()
        .map(String::as_str)
        .filter(|name| EXT.contains(name) && !(is_huge && matches!(*name, "64bit" | "resize_inode")));
    let needed = is_huge.then_some("64bit");
    std::iter::once("none").chain(wanted).chain(needed).collect::<Vec<_>>().join(",")
}

/// For mkfs.xfs: option and value of each feature that it knows.
pub(super) fn xfs(features: &[String], known: &Known) -> Vec<(&'static str, String)> {
    XFS.into_iter()
        .filter(|(name, _)| known.xfs.contains(&format!("{name}=0|1")))
        .map(|(name, section)| {
            let is_wanted = features.iter().any(|feature| feature == name);
            (section, format!("{name}={}", u8::from(is_wanted)))
        })
        .collect()
}

/// For `mkfs.btrfs -O` and `-R`.
pub(super) fn btrfs(features: &[String], known: &Known) -> (String, String) {
    let lists =
        |list: &str, name: &str| list.lines().any(|line| line.split_whitespace().next() == Some(name));
    let (mut format, mut runtime) = (Vec::new(), Vec::new());
    for name in BTRFS {
        let is_wanted = features.iter().any(|feature| feature == name);
        let word = if is_wanted { name.to_owned() } else { format!("^{name}") };
        if lists(&known.btrfs, name) {
            format.push(word);
        } else if lists(&known.runtime, name) {
            runtime.push(word);
        }
    }
    (format.join(","), runtime.join(","))
}
