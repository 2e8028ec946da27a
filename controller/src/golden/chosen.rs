//! The parts of the golden node that are copied: file systems and partitions.

use std::path::PathBuf;

use super::scan::Files;

/// A golden file system, or subvolume, to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The mount point of its files, as seen from the clone's root.
    pub mount_point: PathBuf,
    /// Where its files are visible.
    pub files: Files,
}

/// A golden partition to copy byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawSource {
    /// Its name in the stream, as in [`ka::plan::RawPlan`].
    pub name: String,
    /// Its device node.
    pub device: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// What blkid finds on it, if it recognises the contents.
    pub kind: Option<String>,
}

/// A file system to read, and its mount point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The directory to read. Files on other devices are left out.
    pub directory: PathBuf,
    /// Its mount point as seen from the clone's root: `/`, `/home`. Trailing slashes are ignored.
    pub mount_point: PathBuf,
}
