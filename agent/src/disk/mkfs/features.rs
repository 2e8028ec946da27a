//! File system features as options of the tool that creates it.
//!
//! The plan lists the features of the golden file system. All others are turned off, since a newer tool's
//! defaults may exceed what the copied system's kernel or boot loader can read. Each tool gets only the
//! feature names that it knows, because an older tool stops at a newer name.

use ka::plan::FileSystemKind;
use ka_host::tool;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The time limit for a tool to print its usage.
const LIMIT: Duration = Duration::from_secs(20);

/// The ext features that mke2fs can set. The others describe a state (`needs_recovery`, `orphan_present`), or
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

/// The XFS features in the order of their dependencies, each with its mkfs.xfs option.
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

/// The btrfs features that affect a file system on one device.
const BTRFS: [&str; 7] = [
    "extref",
    "skinny-metadata",
    "no-holes",
    "free-space-tree",
    "block-group-tree",
    "mixed-bg",
    "raid-stripe-tree",
];

/// The features that the tools know.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The usage text of mkfs.xfs.
    xfs: String,
    /// What mkfs.btrfs lists for `-O`.
    btrfs: String,
    /// What mkfs.btrfs lists for `-R`; newer versions list everything under `-O`.
    runtime: String,
}

impl Known {
    /// Queries the tool for this kind.
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

/// A program's complete output; empty if it cannot be run, which its real run will report.
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

/// The path of a program, if it is in `PATH`.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The value of `mke2fs -O` for exactly these features, on this number of blocks.
pub(super) fn ext(features: &[String], blocks: u64) -> String {
    let is_huge = blocks > u64::from(u32::MAX);
    // More blocks than fit in 32 bits require the one and exclude the other.
    let wanted = features
        .iter()
        .map(String::as_str)
        .filter(|name| EXT.contains(name) && !(is_huge && matches!(*name, "64bit" | "resize_inode")));
    let needed = is_huge.then_some("64bit");
    std::iter::once("none").chain(wanted).chain(needed).collect::<Vec<_>>().join(",")
}

/// The option and value for mkfs.xfs of each feature that it knows.
pub(super) fn xfs(features: &[String], known: &Known) -> Vec<(&'static str, String)> {
    XFS.into_iter()
        .filter(|(name, _)| known.xfs.contains(&format!("{name}=0|1")))
        .map(|(name, section)| {
            let is_wanted = features.iter().any(|feature| feature == name);
            (section, format!("{name}={}", u8::from(is_wanted)))
        })
        .collect()
}

/// The values of `mkfs.btrfs -O` and `-R`.
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
