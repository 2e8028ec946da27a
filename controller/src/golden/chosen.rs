//! What of the golden node travels: file systems and partitions.

use std::path::PathBuf;

use super::scan::Files;

/// A golden file system, or subvolume, to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Where its files belong, as seen from the clone's root.
    pub mount_point: PathBuf,
    /// Where they are to be seen.
    pub files: Files,
}

/// A golden partition to copy as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawSource {
    /// Its name in the stream, that of [`ka::plan::RawPlan`].
    pub name: String,
    /// Its device node.
    pub device: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// What blkid finds on it, if it knows it.
    pub kind: Option<String>,
}

/// A file system to read, and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The directory to read. What is on another device is left out.
    pub directory: PathBuf,
    /// Its place as seen from the clone's root: `/`, `/home`. Slashes at the ends mean nothing.
    pub mount_point: PathBuf,
}
