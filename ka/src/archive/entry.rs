//! What an archive says of one file.

use super::flags::Traits;

/// One file of a tree: everything but its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path as the archive has it, without the slash that ends a directory's name. The root of a
    /// tree is `.`, its children are `./NAME`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-user-id, set-group-id and sticky (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of its data.
    pub mtime: Time,
    /// Extended attributes. ACLs are `system.posix_acl_access` and `system.posix_acl_default` in the
    /// kernel's binary form. The packer sorts them by name; the decoder keeps the archive's order.
    pub xattrs: Vec<Xattr>,
    /// Flags, project, and what else chattr(1) and xfs_io(8) set.
    pub traits: Traits,
    /// The golden partition whose bytes a regular file holds; none for files of a tree.
    pub partition: Option<RawPartition>,
}

/// A partition that travels byte by byte, as a regular file among the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawPartition {
    /// What sender and receiver call it, such as `sda3`: no path.
    pub name: String,
    /// What the file's holes are.
    pub holes: RawHoles,
}

/// What must be where a partition's file has holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawHoles {
    /// Zeros: they are content.
    Zero,
    /// Whatever there was before: the file system does not use these blocks.
    Unused,
}

impl RawHoles {
    /// Its name in an archive.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Unused => "unused",
        }
    }

    /// What has this name.
    #[must_use]
    pub fn of_name(name: &[u8]) -> Option<Self> {
        [Self::Zero, Self::Unused].into_iter().find(|holes| holes.name().as_bytes() == name)
    }
}

impl RawPartition {
    /// Whether the name is one that both sides can have for a partition.
    #[must_use]
    pub fn is_name(name: &[u8]) -> bool {
        (1..=64).contains(&name.len()) && name.iter().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(b))
    }
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Size in bytes, holes included.
        size: u64,
        /// Where its data is, if it has holes: in order, without overlap, none empty. The bytes
        /// that follow the entry are these segments' alone.
        segments: Option<Vec<Segment>>,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it says, as it is.
        target: Vec<u8>,
    },
    /// Another name of a file that came before.
    HardLink {
        /// The path of that file in the archive.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// A part of a sparse file that is not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub len: u64,
}

/// A point in time, as `struct timespec` has it: `sec` seconds since 1970 and `nsec` later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970-01-01 00:00 UTC; negative before it.
    pub sec: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nsec: u32,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Xattr {
    /// The whole name, such as `user.comment`.
    pub name: Vec<u8>,
    /// The value, any bytes.
    pub value: Vec<u8>,
}

impl Entry {
    /// How many bytes of data follow the entry: a file's size less its holes, else 0.
    #[must_use]
    pub fn data_len(&self) -> u64 {
        match &self.kind {
            Kind::File { segments: Some(segments), .. } => {
                segments.iter().fold(0, |sum, s| sum.saturating_add(s.len))
            }
            Kind::File { size, segments: None } => *size,
            _ => 0,
        }
    }
}
