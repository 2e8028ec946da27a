//! Inode flags, as chattr(1) sets them, and their names in an archive.
//!
//! The record is `SCHILY.fflags`, invented by star and also written by bsdtar on Linux. The names are
//! bsdtar's (libarchive 3.6) where it has one; the others are those of chattr(1) and xfs_io(8), which bsdtar
//! ignores.

use serde::{Deserialize, Serialize};

/// Inode flags: the kernel's `FS_*_FL` in the lower half, and in the upper half those `FS_XFLAG_*` that have
/// no counterpart there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flags(u64);

/// The position of the `FS_XFLAG_*` bits.
const X: u32 = 32;

/// Names and bits (linux/fs.h). Of several names for a bit the first is written, and all are read.
const NAMES: [(&str, Flags); 32] = [
    ("schg", Flags::IMMUTABLE),
    ("schange", Flags::IMMUTABLE),
    ("simmutable", Flags::IMMUTABLE),
    ("sappnd", Flags::APPEND),
    ("sappend", Flags::APPEND),
    ("uchg", Flags::IMMUTABLE),
    ("uappnd", Flags::APPEND),
    ("secdel", Flags(0x1)),
    ("securedeletion", Flags(0x1)),
    ("undel", Flags(0x2)),
    ("compress", Flags::COMPRESS),
    ("sync", Flags(0x8)),
    ("nodump", Flags(0x40)),
    ("noatime", Flags(0x80)),
    ("dontcompress", Flags::NO_COMPRESS),
    ("journal-data", Flags(0x4000)),
    ("journal", Flags(0x4000)),
    ("notail", Flags(0x8000)),
    ("dirsync", Flags(0x1_0000)),
    ("topdir", Flags(0x2_0000)),
    ("nocow", Flags::NO_COW),
    ("dax", Flags(0x200_0000)),
    ("projinherit", Flags::PROJECT_INHERIT),
    ("casefold", Flags::CASEFOLD),
    ("realtime", Flags(0x1 << X)),
    ("rtinherit", Flags(0x100 << X)),
    ("nosymlinks", Flags(0x400 << X)),
    ("extsize", Flags::EXTENT_SIZE),
    ("extszinherit", Flags::EXTENT_SIZE_INHERIT),
    ("nodefrag", Flags(0x2000 << X)),
    ("filestream", Flags(0x4000 << X)),
    ("cowextsize", Flags::COW_EXTENT_SIZE),
];

impl Flags {
    /// None.
    pub const NONE: Self = Self(0);
    /// `+i`: immutable.
    pub const IMMUTABLE: Self = Self(0x10);
    /// `+a`: append only.
    pub const APPEND: Self = Self(0x20);
    /// `+c`: compressed.
    pub const COMPRESS: Self = Self(0x4);
    /// `+m`: not compressed.
    pub const NO_COMPRESS: Self = Self(0x400);
    /// `+C`: no copy on write.
    pub const NO_COW: Self = Self(0x80_0000);
    /// `+P`: new entries inherit the project id.
    pub const PROJECT_INHERIT: Self = Self(0x2000_0000);
    /// `+F`: case-insensitive names.
    pub const CASEFOLD: Self = Self(0x4000_0000);
    /// It has an extent size hint.
    pub const EXTENT_SIZE: Self = Self(0x800 << X);
    /// New entries inherit its hint.
    pub const EXTENT_SIZE_INHERIT: Self = Self(0x1000 << X);
    /// It has a hint for the size of copy-on-write extents.
    pub const COW_EXTENT_SIZE: Self = Self(0x1_0000 << X);

    /// The bits that can be set. Others report how the file system stores the file.
    const SETTABLE: Self = {
        let (mut all, mut i) = (0, 0);
        while i < NAMES.len() {
            all |= NAMES[i].1.0;
            i += 1;
        }
        Self(all)
    };

    /// The settable flags from the kernel's two words (`FS_IOC_GETFLAGS`, and `fsx_xflags` of
    /// `FS_IOC_FSGETXATTR`).
    #[must_use]
    pub fn of_kernel(flags: u32, xflags: u32) -> Self {
        Self(u64::from(flags) | u64::from(xflags) << X).and(Self::SETTABLE)
    }

    /// The word of `FS_IOC_SETFLAGS`.
    #[must_use]
    pub fn word(self) -> u32 {
        u32::try_from(self.0 & u64::from(u32::MAX)).unwrap_or_default()
    }

    /// The word of `fsx_xflags`, without flags that are in the other word.
    #[must_use]
    pub fn xword(self) -> u32 {
        u32::try_from(self.0 >> X).unwrap_or_default()
    }

    /// Whether no flag is set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `others` are set.
    #[must_use]
    pub fn has(self, others: Self) -> bool {
        self.and(others) == others
    }

    /// The intersection.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The union.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The flags not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Each flag separately.
    pub fn each(self) -> impl Iterator<Item = Self> {
        (0..64).map(|bit| Self(1 << bit)).filter(move |flag| self.has(*flag))
    }

    /// The record's value: names separated by commas.
    #[must_use]
    pub fn names(self) -> String {
        let name = |flag: Self| NAMES.iter().find(|(_, known)| *known == flag).map(|(name, _)| *name);
        self.each().filter_map(name).collect::<Vec<_>>().join(",")
    }

    /// Parses such a value. Unknown names, and those of other systems, are ignored.
    #[must_use]
    pub fn of_names(value: &[u8]) -> Self {
        let one = |name: &[u8]| NAMES.iter().find(|(known, _)| known.as_bytes() == name.trim_ascii());
        let names = value.split(|&b| b == b',').filter_map(one);
        names.fold(Self::NONE, |all, (_, flag)| all.or(*flag))
    }
}

/// The attributes of an inode other than mode, owner, times and extended attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traits {
    /// Its flags.
    pub flags: Flags,
    /// Its project id, by which ext4 and XFS account quotas.
    pub project: u32,
    /// The extent size hint in bytes (XFS), if [`Flags::EXTENT_SIZE`] or its inherit flag is set.
    pub extent_size: u32,
    /// The same for copy-on-write extents.
    pub cow_extent_size: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_bsdtar() {
        let all = [
            (Flags::IMMUTABLE, "schg"),
            (Flags::APPEND, "sappnd"),
            (Flags::NO_COW, "nocow"),
            (Flags::PROJECT_INHERIT, "projinherit"),
            (Flags::of_kernel(0x80 | 0x40 | 0x8 | 0x1_0000, 0), "sync,nodump,noatime,dirsync"),
            (Flags::COMPRESS.or(Flags::NO_COMPRESS), "compress,dontcompress"),
            (Flags::CASEFOLD.or(Flags::EXTENT_SIZE), "casefold,extsize"),
        ];
        for (flags, names) in all {
            assert_eq!(flags.names(), names);
            assert_eq!(Flags::of_names(names.as_bytes()), flags);
        }
        // BSD's names, and names without a meaning on Linux.
        assert_eq!(
            Flags::of_names(b"uchg,opaque, sappend,nocompress,arch"),
            Flags::IMMUTABLE.or(Flags::APPEND)
        );
        assert_eq!(Flags::of_names(b""), Flags::NONE);
    }

    #[test]
    fn every_flag_has_one_name_that_is_written() {
        for flag in Flags::SETTABLE.each() {
            assert_eq!(Flags::of_names(flag.names().as_bytes()), flag, "{flag:?}");
        }
        // Extents, indexes and inline data only report how a file is stored.
        assert_eq!(Flags::of_kernel(0x8_0000 | 0x1000 | 0x1000_0000 | 0x800, 0x8000_0000), Flags::NONE);
    }
}
