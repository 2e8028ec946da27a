//! The metadata of one file in an archive.

use super::flags::Traits;

/// One file of a tree, without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path in the archive, without the trailing slash of a directory. The root of a tree is `.`, its
    /// children are `./NAME`.
    pub path: Vec<u8>,
    /// The kind of file.
    pub kind: Kind,
    /// Permission bits with set-user-id, set-group-id and sticky (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time of its data.
    pub mtime: Time,
    /// Extended attributes. ACLs are `system.posix_acl_access` and `system.posix_acl_default` in the kernel's
    /// binary form. The packer sorts by name; the decoder keeps the archive's order.
    pub xattrs: Vec<Xattr>,
    /// Inode flags, project id, and other values set by chattr(1) and xfs_io(8).
    pub traits: Traits,
    /// The golden partition whose bytes a regular file holds; `None` for files of a tree.
    pub partition: Option<RawPartition>,
}

/// A partition that is copied byte by byte, as a regular file among the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawPartition {
    /// Its name for sender and receiver, such as `sda3`; not a path.
    pub name: String,
    /// The meaning of the file's holes.
    pub holes: RawHoles,
}

/// What must be where a partition's file has holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawHoles {
    /// Zeros: they are content.
    Zero,
    /// Anything: the file system does not use these blocks.
    Unused,
}

impl RawHoles {
    /// The name in an archive.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Unused => "unused",
        }
    }

    /// The meaning with this name.
    #[must_use]
    pub fn of_name(name: &[u8]) -> Option<Self> {
        [Self::Zero, Self::Unused].into_iter().find(|holes| holes.name().as_bytes() == name)
    }
}

impl RawPartition {
    /// Whether both sides can use this name for a partition.
    #[must_use]
    pub fn is_name(name: &[u8]) -> bool {
        (1..=64).contains(&name.len()) && name.iter().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(b))
    }
}

/// The kind of file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Size in bytes, holes included.
        size: u64,
        /// The places of its data, if it has holes: sorted, without overlap, none empty. Only the bytes of
        /// these segments follow the entry.
        segments: Option<Vec<Segment>>,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// The target, unchanged.
        target: Vec<u8>,
    },
    /// Another name of an earlier file.
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

/// A data segment of a sparse file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its start in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// A point in time, as in `struct timespec`: `sec` seconds since 1970 plus `nsec`.
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
    /// The full name, such as `user.comment`.
    pub name: Vec<u8>,
    /// The value, any bytes.
    pub value: Vec<u8>,
}

impl Entry {
    /// The number of data bytes after the entry: a file's size without its holes, else 0.
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
