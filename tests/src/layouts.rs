//! Layouts derived from seeds: what an operator may request, on disks of all sizes.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use crate::sim::random::Random;
use ka::disk::description::Description;
use ka::disk::ids::Seed;
use ka::disk::kind::TableKind;
use ka::disk::layout::{Layout, Least, Placing};
use ka::disk::units::{DiskSize, MB, SectorSize};
use std::fmt::Write;

const GB: u64 = 1024 * MB;
/// 2^40 bytes.
pub const TB: u64 = 1024 * GB;

/// The parameters of a family of layouts.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The kind of table.
    pub table: TableKind,
    /// The disk's sector size.
    pub sector: SectorSize,
    /// The range of the disk's size in bytes.
    pub disk: (u64, u64),
    /// The range of the number of partitions in the table itself.
    pub primaries: (u64, u64),
    /// The range of the number of logical partitions.
    pub logicals: (u64, u64),
    /// The percentage of cases in which a partition shares the remaining space.
    pub fills: u64,
}

/// A few partitions in an MBR.
pub const MBR: Family = Family {
    table: TableKind::Mbr,
    sector: SectorSize::B512,
    disk: (200 * MB, 2 * TB),
    primaries: (1, 4),
    logicals: (0, 0),
    fills: 20,
};

/// Five or more logical partitions: sfdisk reads partition numbers up to 60.
pub const LOGICALS: Family = Family { primaries: (0, 3), logicals: (5, 56), ..MBR };

/// A GPT, with gaps between the numbers.
pub const GPT: Family = Family { table: TableKind::Gpt, primaries: (1, 20), ..MBR };

impl Family {
    /// A disk with one of the family's sizes.
    pub fn disk(&self, random: &mut Random) -> DiskSize {
        // Small disks are as frequent as large ones, and sizes are not only whole MB.
        let octaves = (self.disk.1 / self.disk.0).max(1).ilog2();
        let low = self.disk.0 << random.between(0, octaves.into());
        let bytes = random.between(low, low.saturating_mul(2)).min(self.disk.1);
        DiskSize::of_bytes(bytes, self.sector)
    }

    /// A description whose fixed sizes fit the disk.
    pub fn description(&self, random: &mut Random, disk: DiskSize) -> String {
        let primaries = random.between(self.primaries.0, self.primaries.1);
        let logicals = random.between(self.logicals.0, self.logicals.1);
        let most_mb = disk.bytes().min(2 * TB) / MB / (primaries + 2 * logicals + 4);
        let size = |random: &mut Random| {
            if random.chance(self.fills) {
                return if random.chance(50) {
                    "fill".to_owned()
                } else {
                    format!("fill*{}", random.between(1, 9))
                };
            }
            random.between(1, most_mb.max(1)).to_string()
        };
        if self.table == TableKind::Gpt {
            let mut text = "label: gpt\n".to_owned();
            let mut number = 0;
            for _ in 0..primaries {
                number += if random.chance(20) { random.between(1, 5) } else { 1 };
                let size = size(random);
                let size = if size.starts_with("fill") { size } else { size + "M" };
                let _ = writeln!(text, "disk{number}: size={size}{}", gpt_fields(random));
            }
            return text;
        }
        let mut text = String::new();
        let extended = random.between(0, primaries);
        for number in 0..=primaries {
            if logicals > 0 && number == extended {
                let needs = logicals * (most_mb + 1);
                let fills = if random.chance(70) { "fill".to_owned() } else { needs.to_string() };
                let _ = writeln!(text, "extended {fills}");
            }
            if number < primaries {
                let _ = writeln!(text, "{} {}", mbr_type(random), size(random));
            }
        }
        for _ in 0..logicals {
            let _ = writeln!(text, "logical {} {}", mbr_type(random), size(random));
        }
        text
    }
}

fn mbr_type(random: &mut Random) -> String {
    match random.between(0, 5) {
        0..=2 => "linux".to_owned(),
        3 => "swap".to_owned(),
        _ => loop {
            let kind = random.between(1, 0xff);
            if !matches!(kind, 5 | 0xf | 0x85 | 0xee) {
                break format!("type{kind:x}");
            }
        },
    }
}

fn gpt_fields(random: &mut Random) -> String {
    let mut text = String::new();
    if random.chance(80) {
        let kinds = ["L", "S", "U", "H", "R", "V", "\"BIOS boot\"", "\"Microsoft basic data\""];
        let kind = kinds.get(random.index(kinds.len())).unwrap();
        let _ = write!(text, ", type={kind}");
    }
    if random.chance(50) {
        let names =
            ["EFI", "data & more", "données", "a\\x22b", "36 characters of a partition's name.", "根"];
        let _ = write!(text, ", name=\"{}\"", names.get(random.index(names.len())).unwrap());
    }
    if random.chance(30) {
        let bits = ["RequiredPartition", "LegacyBIOSBootable", "GUID:48,63", "NoBlockIOProtocol GUID:60"];
        let _ = write!(text, ", attrs=\"{}\"", bits.get(random.index(bits.len())).unwrap());
    }
    text
}

/// The layout of a description on a disk, with identities derived from the seed.
pub fn layout(text: &str, disk: DiskSize, random: &mut Random) -> Layout {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&random.bits().to_le_bytes());
    let description = Description::parse(text, "desc").unwrap_or_else(|e| panic!("{e}\n{text}"));
    Layout::new(&description, disk, &Placing::default(), &Least::new(), &Seed(seed))
        .unwrap_or_else(|e| panic!("{e}\n{text}"))
}
