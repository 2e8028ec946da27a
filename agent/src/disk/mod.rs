//! The node's disk: claim it, write its table, make and mount its file systems.

use ka::plan::FileSystemPlan;
use std::path::PathBuf;

/// A file system that was made on a partition, with the names that it has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeFileSystem {
    /// What was asked for.
    pub plan: FileSystemPlan,
    /// The partition's device node.
    pub device: PathBuf,
    /// The new file system's UUID as blkid prints it.
    pub uuid: String,
    /// The partition's PARTUUID as the kernel and blkid print it: `disk signature-number`.
    pub partuuid: String,
}

/// A disk that is partitioned, formatted and mounted.
#[derive(Debug)]
pub struct Prepared {
    /// The whole disk's device node.
    pub disk: PathBuf,
    /// Its file systems and swap spaces, by partition number.
    pub made: Vec<MadeFileSystem>,
    /// Where the clone's root directory is mounted.
    pub root: PathBuf,
}
