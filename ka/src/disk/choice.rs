//! Which of a node's disks a run means.
//!
//! The kernel's names are given in the order in which disks were found, so `sda` need not be the same disk
//! at every boot, nor on every node. A choice may say more than the name: size, model, serial number; or
//! it may go by the disk's own name in /dev/disk/by-id.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Which disk of a node to erase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskChoice {
    /// The one with this name of the kernel's, if it is what is expected (`-p sda`, `-p sda:size=480G`).
    Name {
        /// The name, such as `sda` or `nvme0n1`.
        name: String,
        /// What the disk must be besides.
        expect: Expect,
    },
    /// The only fixed disk, or the only one that is like the golden one (`-p auto`).
    Auto {
        /// How the golden disk is attached, as the inventory has it.
        bus: String,
        /// The golden disk's size in bytes.
        size: u64,
    },
    /// The one with a name in /dev/disk/by-id that fits the pattern, with `*` and `?` (`-p by-id:PATTERN`).
    ById(String),
}

/// What a disk must be besides having a name. What is not said is not checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    /// Its size in bytes; a disk sold by that size is within 5 % of it.
    pub size: Option<u64>,
    /// Text in its model.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
}

impl From<&str> for DiskChoice {
    fn from(name: &str) -> Self {
        Self::Name { name: name.to_owned(), expect: Expect::default() }
    }
}

impl fmt::Display for DiskChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name, .. } => f.write_str(name),
            Self::Auto { .. } => f.write_str("auto"),
            Self::ById(pattern) => write!(f, "by-id:{pattern}"),
        }
    }
}
