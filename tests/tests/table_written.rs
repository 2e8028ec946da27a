//! Tables written by ka, and read by ka, sfdisk and sgdisk with the same result.
//!
//! The layouts derive from seeds: a failure names the seed.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::disk::description::Format;
use ka::disk::layout::Layout;
use ka::disk::units::{DiskSize, MB, SectorSize};
use ka_tests::layouts::{Family, GPT, LOGICALS, MBR, TB, layout};
use ka_tests::loop_device::Loop;
use ka_tests::sim::random::Random;
use ka_tests::tables;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Writes and judges the layouts of a family, each on its own image.
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

/// ka, sfdisk and sgdisk read the layout as written, and find no errors.
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
    // The subset that an MBR can describe: fixed sizes that end before 2 TiB.
    check_family(Family { disk, fills: 0, ..MBR }, 4300..4330);
}

/// Only a device has sectors of 4096 bytes: one loop device is rewritten repeatedly.
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
        // No other table may remain.
        let file = File::options().write(true).open(path).unwrap();
        for at in [0, size - 64 * 1024] {
            file.write_all_at(&[0; 64 * 1024], at).unwrap();
        }
        tables::write(path, &layout);
        judge(path, &layout);
    }
}

/// sfdisk, given the same starts, sizes, types and signature, writes the same bytes, including those of
/// cylinders, heads and sectors.
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
