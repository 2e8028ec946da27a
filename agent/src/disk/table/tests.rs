//! A power cut at any moment: of the writes since the last flush, any may be on the disk and any not.

use super::*;
use crate::disk::activate;
use ka::disk::description::Description;
use ka::disk::ids::Seed;
use ka::disk::mbr::{self, Mbr};
use ka::disk::table::Table;
use ka::disk::units::{DiskSize, SectorSize};
use ka::plan::fit::fit;
use ka::plan::{DiskPlan, Storage, VolumeContent};
use std::cell::RefCell;
use std::io::Cursor;

/// What is written between two flushes: offsets and bytes.
type Group = Vec<(u64, Vec<u8>)>;

/// Writes, and the flushes between them.
#[derive(Default)]
struct Recorder(RefCell<Vec<Group>>);

impl Medium for Recorder {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut groups = self.0.borrow_mut();
        if groups.is_empty() {
            groups.push(Vec::new());
        }
        if let Some(group) = groups.last_mut() {
            group.push((offset, bytes.to_vec()));
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.borrow_mut().push(Vec::new());
        Ok(())
    }
}

/// Small, reproducible, and good enough to choose subsets.
struct Random(u64);

impl Random {
    fn chance(&mut self) -> bool {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 40 & 1 == 1
    }
}

/// Does a write, and returns the one that undoes it.
fn at(disk: &mut [u8], (offset, bytes): &(u64, Vec<u8>)) -> (u64, Vec<u8>) {
    let start = usize::try_from(*offset).unwrap();
    let place = &mut disk[start..start + bytes.len()];
    let before = place.to_vec();
    place.copy_from_slice(bytes);
    (*offset, before)
}

/// Whether any BIOS would start something from this disk, or any UEFI find a partition on it.
fn starts(disk: &[u8], size: DiskSize) -> bool {
    let code = disk[..mbr::BOOT_CODE].iter().any(|b| *b != 0);
    let active = Mbr::decode(disk).is_ok_and(|mbr| mbr.entries.iter().flatten().any(|e| e.active));
    // What a firmware finds by a GPT: the old partitions, since the new ones have nothing in them yet.
    let esp = Table::read(&mut Cursor::new(disk), size)
        .is_ok_and(|table| table.partitions.iter().any(|p| p.name == "old"));
    code || active || esp
}

const OLD: &str = "label: gpt\nsize=4MiB, type=U, name=old\nsize=+, type=L, name=old\n";

/// No partition has a content.
const NOTHING: [(u32, VolumeContent); 0] = [];

/// Cuts the power everywhere while `description` takes the place of another one, and the last write too.
fn cut_everywhere(old: &str, description: &str, sector: u32) {
    let size = DiskSize::of_bytes(32 * MB, SectorSize::try_from(sector).unwrap());
    let layout = |text: &str| {
        let plan = DiskPlan::new("sda".into(), Description::parse(text, "d").unwrap());
        fit(&Storage::of(plan, NOTHING), 0, size, &Seed([7; 32])).unwrap()
    };
    let (before, after) = (layout(old), layout(description));
    let mut disk = vec![0; usize::try_from(size.bytes()).unwrap()];
    for write in before.writes().unwrap() {
        at(&mut disk, &(write.offset, write.bytes));
    }
    disk[..mbr::BOOT_CODE].fill(0xfa);
    let extents: Vec<Extent> = before
        .partitions
        .iter()
        .map(|p| Extent { start: p.start.bytes(size.sector), end: p.end().bytes(size.sector) })
        .collect();
    // What the old system needs to run.
    for extent in &extents {
        disk[usize::try_from(extent.start).unwrap()] = 1;
    }
    let contents =
        |disk: &[u8]| extents.iter().all(|extent| disk[usize::try_from(extent.start).unwrap()] == 1);

    let recorder = Recorder::default();
    take_away_boot(&recorder, size.bytes()).unwrap();
    wipe_signatures(&recorder, &after, &extents).unwrap();
    let writes = after.writes().unwrap();
    write_table(&recorder, &writes).unwrap();
    let last_before_end = recorder.0.borrow().len();
    let mut sector = *writes.last().unwrap().bytes.first_chunk().unwrap();
    sector[..mbr::BOOT_CODE].fill(0xeb);
    activate::write(&recorder, &sector).unwrap();

    let mut random = Random(size.sector.bytes() + description.len() as u64);
    let groups = recorder.0.into_inner();
    for (i, group) in groups.iter().enumerate() {
        for _ in 0..6 {
            let chosen: Vec<_> = group.iter().filter(|_| random.chance()).collect();
            let undo: Vec<_> = chosen.into_iter().map(|write| at(&mut disk, write)).collect();
            let is_new = i >= last_before_end;
            assert!(!starts(&disk, size) || is_new || contents(&disk), "group {i} of {}", groups.len());
            for write in undo.iter().rev() {
                at(&mut disk, write);
            }
        }
        for write in group {
            at(&mut disk, write);
        }
        if i > 2 && i < last_before_end {
            assert!(!starts(&disk, size), "after group {i}");
        }
    }
    assert!(starts(&disk, size));
    let table = Table::read(&mut Cursor::new(&disk), size).unwrap();
    assert_eq!(table.partitions.len(), after.partitions.len());
    assert_eq!(table.findings, []);
}

#[test]
fn a_power_cut_leaves_the_old_system_or_nothing_that_starts() {
    let logical = "linux 8\nextended fill\nlogical swap 4\nlogical linux fill\n";
    let gpt = "label: gpt\nsize=8MiB, type=U\nsize=+, type=L\n";
    let old_mbr = "label: dos\nsize=4MiB, type=83, bootable\nsize=+, type=83\n";
    for sector in [512, 4096] {
        for old in [OLD, old_mbr, logical] {
            for new in ["linux fill\n", logical, gpt] {
                cut_everywhere(old, new, sector);
            }
        }
    }
}
