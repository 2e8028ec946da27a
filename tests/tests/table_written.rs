//! Tables that ka writes, read by ka, by sfdisk and by sgdisk with the same result.
//!
//! The layouts are made from seeds: a failure names the seed.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::disk::description::{Description, Format};
use ka::disk::ids::Seed;
use ka::disk::kind::TableKind;
use ka::disk::layout::{Layout, Least, Placing};
use ka::disk::units::{DiskSize, MB, SectorSize};
use ka_tests::loop_device::Loop;
use ka_tests::sim::random::Random;
use ka_tests::tables;
use std::fmt::Write;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const GB: u64 = 1024 * MB;
const TB: u64 = 1024 * GB;

/// What a family of layouts has in common.
#[derive(Clone, Copy)]
struct Family {
    table: TableKind,
    sector: SectorSize,
    /// The disk's size in bytes, from and to.
    disk: (u64, u64),
    /// Partitions of the table itself, and logical ones, at most.
    primaries: (u64, u64),
    logicals: (u64, u64),
    /// In how many of 100 cases a partition shares what is left.
    fills: u64,
}

const MBR: Family = Family {
    table: TableKind::Mbr,
    sector: SectorSize::B512,
    disk: (200 * MB, 2 * TB),
    primaries: (1, 4),
    logicals: (0, 0),
    fills: 20,
};

/// sfdisk reads partitions up to number 60 and no further.
const LOGICALS: Family = Family { primaries: (0, 3), logicals: (5, 56), ..MBR };

const GPT: Family = Family { table: TableKind::Gpt, primaries: (1, 20), ..MBR };

impl Family {
    fn disk(&self, random: &mut Random) -> DiskSize {
        // As many small disks as large ones; and not only whole MB.
        let octaves = (self.disk.1 / self.disk.0).max(1).ilog2();
        let low = self.disk.0 << random.between(0, octaves.into());
        let bytes = random.between(low, low.saturating_mul(2)).min(self.disk.1);
        DiskSize::of_bytes(bytes, self.sector)
    }

    /// A description whose fixed sizes fit the disk.
    fn description(&self, random: &mut Random, disk: DiskSize) -> String {
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

fn layout(text: &str, disk: DiskSize, random: &mut Random) -> Layout {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&random.bits().to_le_bytes());
    let description = Description::parse(text, "desc").unwrap_or_else(|e| panic!("{e}\n{text}"));
    Layout::new(&description, disk, &Placing::default(), &Least::new(), &Seed(seed))
        .unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Writes and judges layouts of a family, each on an image of its own.
fn check_family(family: Family, seeds: std::ops::Range<u64>) {
    tables::for_seeds(seeds, |seed, work| {
        let mut random = Random::new(seed);
        let disk = family.disk(&mut random);
        let text = family.description(&mut random, disk);
        let layout = layout(&text, disk, &mut random);
        let image = work.join("disk");
        File::create(&image).unwrap().set_len(disk.bytes()).unwrap();
        tables::write(&image, &layout);
        judge(&image, &layout);
    });
}

/// ka, sfdisk and sgdisk read what the layout says, and find nothing wrong.
fn judge(disk: &Path, layout: &Layout) {
    let expected = tables::of_layout(layout);
    tables::same(&tables::by_us(disk, layout.disk.sector), &expected);
    assert_eq!(tables::read(disk, layout.disk.sector).findings, []);
    tables::same(&tables::by_sfdisk(disk), &expected);
    tables::verify(disk);
    tables::check_by_sgdisk(disk, layout.table(), &expected);
    tables::check_dump(disk, layout.disk.sector);
}

#[test]
fn primaries() {
    check_family(MBR, 0..200);
}

#[test]
fn five_or_more_logicals() {
    check_family(LOGICALS, 1000..1250);
}

#[test]
fn weighted_fill() {
    check_family(Family { fills: 80, ..LOGICALS }, 2000..2080);
    check_family(Family { fills: 80, ..MBR }, 2100..2160);
    check_family(Family { fills: 80, ..GPT }, 2200..2300);
}

#[test]
fn gpt() {
    check_family(GPT, 3000..3200);
}

#[test]
fn disks_over_two_tib() {
    let disk = (2 * TB + MB, 14 * TB);
    check_family(Family { disk, ..GPT }, 4000..4200);
    // What an MBR can name of them: fixed sizes that end before 2 TiB.
    check_family(Family { disk, fills: 0, ..MBR }, 4300..4330);
}

/// Only a device has sectors of 4096 bytes: one loop device is written again and again.
#[test]
fn sectors_of_4096_bytes() {
    let size = 14 * TB;
    let device = Loop::new(size, 4096);
    let disk = DiskSize::of_bytes(size, SectorSize::B4096);
    let path = Path::new(device.node());
    let families = [
        Family { sector: SectorSize::B4096, fills: 40, ..GPT },
        Family { sector: SectorSize::B4096, fills: 40, ..LOGICALS },
        Family { sector: SectorSize::B4096, ..MBR },
    ];
    for seed in 5000..5220 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let family = families.get(random.index(families.len())).unwrap();
        let text = family.description(&mut random, disk);
        println!("{text}");
        let layout = layout(&text, disk, &mut random);
        // No other table may be left.
        let file = File::options().write(true).open(path).unwrap();
        for at in [0, size - 64 * 1024] {
            file.write_all_at(&[0; 64 * 1024], at).unwrap();
        }
        tables::write(path, &layout);
        judge(path, &layout);
    }
}

/// sfdisk, given the same starts, sizes, types and signature, writes the same bytes, those of cylinders,
/// heads and sectors included.
#[test]
fn mbrs_and_ebrs_are_the_same_bytes_as_sfdisks() {
    tables::for_seeds(6000..6100, |seed, work| {
        let mut random = Random::new(seed);
        let family = if random.chance(60) { LOGICALS } else { MBR };
        let disk = family.disk(&mut random);
        let layout = layout(&family.description(&mut random, disk), disk, &mut random);
        let image = work.join("disk");
        File::create(&image).unwrap().set_len(disk.bytes()).unwrap();
        tables::write(&image, &layout);
        let script = tables::read(&image, disk.sector).describe().unwrap().render(Format::Sfdisk).text;
        File::create(&image).unwrap().set_len(disk.bytes()).unwrap();
        tables::sfdisk(&image, &script);
        let file = File::open(&image).unwrap();
        for write in layout.writes().unwrap() {
            let mut theirs = vec![0; write.bytes.len()];
            file.read_exact_at(&mut theirs, write.offset).unwrap();
            let at = theirs.iter().zip(&write.bytes).position(|(one, other)| one != other);
            if let Some(at) = at {
                let (theirs, ours) = (&theirs[446..512], &write.bytes[446..512]);
                panic!("at {} + {at}: {theirs:x?}, ours {ours:x?}\n{script}", write.offset);
            }
        }
    });
}
