//! Partition types: MBR numbers, GPT GUIDs, and their names.
//!
//! Names, aliases and shortcuts are those of sfdisk (`sfdisk -T`), so that its scripts mean the same here.

use super::guid::Guid;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The two kinds of partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TableKind {
    /// The master boot record ("dos"), with extended and logical partitions.
    Mbr,
    /// The GUID partition table.
    Gpt,
}

/// The type of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PartitionKind {
    /// An MBR type: 0x83 is Linux, 0x82 swap.
    Mbr(u8),
    /// A GPT type.
    Gpt(Guid),
}

/// The MBR type of a GPT's protective entry.
pub const PROTECTIVE: u8 = 0xee;

/// A type and its name.
struct Known {
    mbr: Option<u8>,
    gpt: Option<Guid>,
    /// sfdisk's one-letter shortcut and its alias.
    short: &'static [&'static str],
    name: &'static str,
}

const fn both(mbr: u8, gpt: u128, short: &'static [&'static str], name: &'static str) -> Known {
    Known { mbr: Some(mbr), gpt: Some(Guid::new(gpt)), short, name }
}

const fn mbr(mbr: u8, short: &'static [&'static str], name: &'static str) -> Known {
    Known { mbr: Some(mbr), gpt: None, short, name }
}

const fn gpt(gpt: u128, short: &'static [&'static str], name: &'static str) -> Known {
    Known { mbr: None, gpt: Some(Guid::new(gpt)), short, name }
}

/// The types that this library uses, or that a person is likely to name. Any other is given by number or
/// GUID.
const KNOWN: &[Known] = &[
    both(0x83, 0x0fc63daf_8483_4772_8e79_3d69d8477de4, &["L", "linux"], "Linux filesystem"),
    both(0x82, 0x0657fd6d_a4ab_43c4_84e5_0933c84b4f4f, &["S", "swap"], "Linux swap"),
    mbr(0x05, &["E", "Ex", "extended"], "Extended"),
    mbr(0x0f, &[], "W95 Ext'd (LBA)"),
    mbr(0x85, &["X", "linuxex"], "Linux extended"),
    gpt(0x933ac7e1_2eb4_4f13_b844_0e14e2aef915, &["H", "home"], "Linux home"),
    both(0xef, 0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b, &["U", "uefi"], "EFI System"),
    both(0xfd, 0xa19d880f_05fc_4d3b_a006_743f0f84911e, &["R", "raid"], "Linux RAID"),
    both(0x8e, 0xe6d6d379_f507_44c2_a23c_238f2a3df928, &["V", "lvm"], "Linux LVM"),
    gpt(0x21686148_6449_6e6f_744e_656564454649, &[], "BIOS boot"),
    both(0x41, 0x9e1a2d38_c612_4316_aa26_8b49521e5a8b, &[], "PowerPC PReP boot"),
    both(0xea, 0xbc13c2ff_59e6_4262_a352_b275fd6f7172, &[], "Linux extended boot"),
    gpt(0xe3c9e316_0b5c_4db8_817d_f92df00215ae, &[], "Microsoft reserved"),
    both(0x07, 0xebd0a0a2_b9e5_4433_87c0_68b6b72699c7, &[], "Microsoft basic data"),
    both(0x27, 0xde94bba4_06d1_4d40_a16a_bfd50179d6ac, &[], "Windows recovery environment"),
    gpt(0x3b8f8425_20e0_4f3b_907f_1a25a76f98e8, &[], "Linux server data"),
    gpt(0x4d21b016_b534_45c2_a9fb_5c16e091fd2d, &[], "Linux variable data"),
    gpt(0x7ec6f557_3bc5_4aca_b293_16ef5df639d1, &[], "Linux temporary data"),
    gpt(0x773f91ef_66d4_49b5_bd83_d683bf40ad16, &[], "Linux user's home"),
    gpt(0x8da63339_0007_60c0_c436_083ac8230908, &[], "Linux reserved"),
    gpt(0x44479540_f297_41b2_9af7_d131d5f0458a, &[], "Linux root (x86)"),
    gpt(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709, &[], "Linux root (x86-64)"),
    gpt(0x69dad710_2ce4_4e3c_b16c_21a1d49abed3, &[], "Linux root (ARM)"),
    gpt(0xb921b045_1df0_41c3_af44_4c6f280d3fae, &[], "Linux root (ARM-64)"),
    gpt(0x75250d76_8cc6_458e_bd66_bd47cc81a812, &[], "Linux /usr (x86)"),
    gpt(0x8484680c_9521_48c6_9c11_b0720656f69e, &[], "Linux /usr (x86-64)"),
    gpt(0x7d0359a3_02b3_4f0a_865c_654403e70625, &[], "Linux /usr (ARM)"),
    gpt(0xb0e01050_ee5f_4390_949a_9101b17104e9, &[], "Linux /usr (ARM-64)"),
    gpt(0x516e7cb4_6ecf_11d6_8ff8_00022d09712b, &[], "FreeBSD data"),
    gpt(0x516e7cb5_6ecf_11d6_8ff8_00022d09712b, &[], "FreeBSD swap"),
    gpt(0x516e7cb6_6ecf_11d6_8ff8_00022d09712b, &[], "FreeBSD UFS"),
    gpt(0x516e7cba_6ecf_11d6_8ff8_00022d09712b, &[], "FreeBSD ZFS"),
    gpt(0x48465300_0000_11aa_aa11_00306543ecac, &[], "Apple HFS/HFS+"),
    gpt(0x7c3457ef_0000_11aa_aa11_00306543ecac, &[], "Apple APFS"),
    gpt(0x6a898cc3_1dd2_11b2_99a6_080020736631, &[], "Solaris /usr & Apple ZFS"),
    gpt(0xfe3a2a5d_4f32_41a7_b725_accc3285a309, &[], "ChromeOS kernel"),
    gpt(0xaa31e02a_400f_11db_9590_000c2911d1b8, &[], "VMware VMFS"),
    mbr(0x01, &[], "FAT12"),
    mbr(0x04, &[], "FAT16 <32M"),
    mbr(0x06, &[], "FAT16"),
    mbr(0x07, &[], "HPFS/NTFS/exFAT"),
    mbr(0x0b, &[], "W95 FAT32"),
    mbr(0x0c, &[], "W95 FAT32 (LBA)"),
    mbr(0x0e, &[], "W95 FAT16 (LBA)"),
    mbr(0x12, &[], "Compaq diagnostics"),
    mbr(0x82, &[], "Linux swap / Solaris"),
    mbr(0x83, &[], "Linux"),
    mbr(0xa5, &[], "FreeBSD"),
    mbr(0xaf, &[], "HFS / HFS+"),
    mbr(0xda, &[], "Non-FS data"),
    mbr(0xde, &[], "Dell Utility"),
    mbr(0xef, &[], "EFI (FAT-12/16/32)"),
    mbr(0xfb, &[], "VMware VMFS"),
    mbr(0xfd, &[], "Linux raid autodetect"),
];

impl PartitionKind {
    /// The Linux file system type.
    #[must_use]
    pub fn linux(table: TableKind) -> Self {
        Self::short("linux", table).unwrap_or(Self::Mbr(0x83))
    }

    /// The Linux swap type.
    #[must_use]
    pub fn swap(table: TableKind) -> Self {
        Self::short("swap", table).unwrap_or(Self::Mbr(0x82))
    }

    /// Parses a type as sfdisk does: a shortcut or alias (`L`, `linux`), a hexadecimal MBR number, a GUID, or
    /// a name from `sfdisk -T`, of which only letters and digits count.
    #[must_use]
    pub fn parse(text: &str, table: TableKind) -> Option<Self> {
        if let Some(kind) = Self::short(text, table) {
            return Some(kind);
        }
        match table {
            TableKind::Mbr => {
                let digits = text.strip_prefix("0x").unwrap_or(text);
                if (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return u8::from_str_radix(digits, 16).ok().map(Self::Mbr);
                }
            }
            TableKind::Gpt => {
                if let Ok(guid) = text.parse() {
                    return Some(Self::Gpt(guid));
                }
            }
        }
        let plain = |name: &str| -> String {
            name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
        };
        let wanted = plain(text);
        KNOWN.iter().filter(|known| plain(known.name) == wanted).find_map(|known| known.of(table))
    }

    fn short(text: &str, table: TableKind) -> Option<Self> {
        KNOWN.iter().filter(|known| known.short.contains(&text)).find_map(|known| known.of(table))
    }

    /// The type's name, if it is well known.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        let table = self.table();
        // Names that only an MBR has come after those that both tables have.
        let mut known = KNOWN.iter().filter(|known| known.of(table) == Some(self));
        match table {
            TableKind::Mbr => known.next_back(),
            TableKind::Gpt => known.next(),
        }
        .map(|known| known.name)
    }

    /// The kind of table that the type belongs to.
    #[must_use]
    pub fn table(self) -> TableKind {
        match self {
            Self::Mbr(_) => TableKind::Mbr,
            Self::Gpt(_) => TableKind::Gpt,
        }
    }

    /// The equivalent in the other kind of table, if any: Linux, swap, EFI system, RAID, LVM and some more.
    #[must_use]
    pub fn in_table(self, table: TableKind) -> Option<Self> {
        if self.table() == table {
            return Some(self);
        }
        KNOWN.iter().filter(|known| known.of(self.table()) == Some(self)).find_map(|known| known.of(table))
    }

    /// Whether it contains logical partitions.
    #[must_use]
    pub fn is_extended(self) -> bool {
        matches!(self, Self::Mbr(0x05 | 0x0f | 0x85))
    }

    /// Whether it is Linux swap.
    #[must_use]
    pub fn is_swap(self) -> bool {
        self.is_one_of("Linux swap")
    }

    /// Whether it is Linux's general file system type.
    #[must_use]
    pub fn is_linux(self) -> bool {
        self.is_one_of("Linux filesystem")
    }

    /// Whether it is any Linux file system type, including home, root, /usr, /var and others.
    #[must_use]
    pub fn is_linux_files(self) -> bool {
        self.is_linux()
            || self.is_one_of("Linux extended boot")
            || self.name().is_some_and(|name| {
                let files = ["home", "user's", "root", "/usr", "variable", "temporary", "server"];
                name.strip_prefix("Linux ").is_some_and(|rest| files.iter().any(|f| rest.starts_with(f)))
            })
    }

    /// The EFI system partition.
    #[must_use]
    pub fn is_esp(self) -> bool {
        self.is_one_of("EFI System")
    }

    /// Whether it holds GRUB's core on a GPT disk that boots by BIOS.
    #[must_use]
    pub fn is_bios_boot(self) -> bool {
        self.is_one_of("BIOS boot")
    }

    /// Whether a partition of this type has a size determined by its purpose, not by the disk: boot
    /// partitions, and swap.
    #[must_use]
    pub fn is_of_fixed_size(self) -> bool {
        self.is_swap()
            || self.is_esp()
            || self.is_bios_boot()
            || ["PowerPC PReP boot", "Linux extended boot", "Microsoft reserved"]
                .iter()
                .chain(&["Windows recovery environment", "Compaq diagnostics", "Dell Utility"])
                .any(|name| self.is_one_of(name))
    }

    fn is_one_of(self, name: &str) -> bool {
        let table = self.table();
        KNOWN.iter().any(|known| known.name == name && known.of(table) == Some(self))
    }
}

impl Known {
    fn of(&self, table: TableKind) -> Option<PartitionKind> {
        match table {
            TableKind::Mbr => self.mbr.map(PartitionKind::Mbr),
            TableKind::Gpt => self.gpt.map(PartitionKind::Gpt),
        }
    }
}

/// As in sfdisk's scripts: hex, or a GUID in upper case.
impl fmt::Display for PartitionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mbr(number) => write!(f, "{number:x}"),
            Self::Gpt(guid) => f.write_str(&guid.upper()),
        }
    }
}

impl fmt::Display for TableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mbr => "MBR",
            Self::Gpt => "GPT",
        })
    }
}
