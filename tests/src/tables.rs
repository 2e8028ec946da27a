//! Partition tables as read by other tools: the output of sfdisk and sgdisk, converted to one form.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use crate::tool::tool;
use ka::disk::description::{Description, DiskId, Entry};
use ka::disk::kind::TableKind;
use ka::disk::layout::{Layout, Placed};
use ka::disk::table::Table;
use ka::disk::units::{DiskSize, SectorSize};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// A partition as reported by a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its number.
    pub number: u32,
    /// Its first sector.
    pub start: u64,
    /// Its length in sectors.
    pub size: u64,
    /// Its type: hex, or a GUID in upper case.
    pub kind: String,
    /// The active flag of an MBR.
    pub bootable: bool,
    /// A GPT's UUID in upper case, else empty.
    pub uuid: String,
    /// A GPT's name, else empty.
    pub name: String,
    /// A GPT's attribute bits.
    pub attributes: u64,
}

/// ka's reading in the same form: the disk's identity, and the partitions.
pub fn by_us(disk: &Path, sector: SectorSize) -> (String, Vec<Told>) {
    let table = read(disk, sector);
    (id(table.id), table.partitions.iter().map(told).collect())
}

/// The table of a disk, as ka reads it.
pub fn read(disk: &Path, sector: SectorSize) -> Table {
    Table::read(&mut File::open(disk).unwrap(), size_of(disk, sector)).unwrap()
}

/// The size of an image or a loop device.
pub fn size_of(disk: &Path, sector: SectorSize) -> DiskSize {
    let bytes = std::io::Seek::seek(&mut File::open(disk).unwrap(), std::io::SeekFrom::End(0)).unwrap();
    DiskSize::of_bytes(bytes, sector)
}

/// A layout in the same form, without active flags, which are not written with the table.
pub fn of_layout(layout: &Layout) -> (String, Vec<Told>) {
    let inactive = |placed: &Placed| Told { bootable: false, ..told(placed) };
    (id(layout.id), layout.partitions.iter().map(inactive).collect())
}

fn id(id: DiskId) -> String {
    id.to_string()
}

fn told(placed: &Placed) -> Told {
    Told {
        number: placed.number,
        start: placed.start.0,
        size: placed.size.0,
        kind: placed.kind.to_string(),
        bootable: placed.bootable,
        uuid: placed.uuid.map(ka::disk::guid::Guid::upper).unwrap_or_default(),
        name: placed.name.clone(),
        attributes: placed.attributes,
    }
}

/// The table as sfdisk reads it.
pub fn by_sfdisk(disk: &Path) -> (String, Vec<Told>) {
    let json: serde_json::Value =
        serde_json::from_str(&tool("sfdisk", ["-J", disk.to_str().unwrap()])).unwrap();
    let table = &json["partitiontable"];
    let text = |p: &serde_json::Value, key: &str| p[key].as_str().unwrap_or_default().to_owned();
    let device = disk.to_str().unwrap();
    let one = |p: &serde_json::Value| Told {
        number: text(p, "node").strip_prefix(device).unwrap().trim_start_matches('p').parse().unwrap(),
        start: p["start"].as_u64().unwrap(),
        size: p["size"].as_u64().unwrap(),
        kind: text(p, "type"),
        bootable: p["bootable"].as_bool().unwrap_or(false),
        uuid: text(p, "uuid"),
        name: text(p, "name"),
        attributes: attributes(&text(p, "attrs")),
    };
    let partitions = table["partitions"].as_array().map(|all| all.iter().map(one).collect());
    (text(table, "id"), partitions.unwrap_or_default())
}

/// sfdisk's names for attribute bits.
fn attributes(text: &str) -> u64 {
    text.split([' ', ',']).filter(|word| !word.is_empty()).fold(0, |bits, word| {
        bits | 1
            << match word {
                "RequiredPartition" => 0,
                "NoBlockIOProtocol" => 1,
                "LegacyBIOSBootable" => 2,
                bit => bit.trim_start_matches("GUID:").parse::<u32>().unwrap(),
            }
    })
}

/// Asserts that two readings are equal, or reports the first difference.
pub fn same(one: &(String, Vec<Told>), other: &(String, Vec<Told>)) {
    assert_eq!(one.0, other.0);
    for (one, other) in one.1.iter().zip(&other.1) {
        assert_eq!(one, other);
    }
    assert_eq!(one.1.len(), other.1.len());
}

/// Asserts that sfdisk finds no error in the table.
pub fn verify(disk: &Path) {
    let verdict = tool("sfdisk", ["--verify", disk.to_str().unwrap()]);
    assert!(verdict.contains("No errors detected"), "{verdict}");
}

/// Asserts that sgdisk finds no error in the GPT and reads these partitions. It converts an MBR in memory.
pub fn check_by_sgdisk(disk: &Path, table: TableKind, expected: &(String, Vec<Told>)) {
    let (id, partitions) = expected;
    let partitions: Vec<_> = partitions
        .iter()
        .filter(|p| table == TableKind::Gpt || !matches!(p.kind.as_str(), "5" | "f" | "85"))
        .collect();
    let mut arguments = vec!["-p".to_owned()];
    if table == TableKind::Gpt {
        arguments.push("-v".to_owned());
        arguments.extend(partitions.iter().map(|p| format!("-i{}", p.number)));
    }
    arguments.push(disk.to_str().unwrap().to_owned());
    let text = tool("sgdisk", &arguments);
    let listed = |line: &str| -> Option<(u32, u64, u64)> {
        let mut words = line.split_whitespace();
        let mut next = || words.next()?.parse::<u64>().ok();
        let (number, start, end) = (next()?, next()?, next()?);
        Some((u32::try_from(number).ok()?, start, end))
    };
    let found: Vec<_> = text.lines().filter_map(listed).collect();
    let wanted: Vec<_> = partitions.iter().map(|p| (p.number, p.start, p.start + p.size - 1)).collect();
    assert_eq!(found, wanted, "{text}");
    if table == TableKind::Mbr {
        return;
    }
    assert!(text.contains("No problems found"), "{text}");
    assert!(text.contains(&format!("Disk identifier (GUID): {id}\n")), "{text}");
    let values = |key: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(key));
        lines.map(|line| line.split(" (").next().unwrap_or_default().to_owned()).collect()
    };
    let of = |f: &dyn Fn(&Told) -> String| -> Vec<String> { partitions.iter().map(|p| f(p)).collect() };
    assert_eq!(values("Partition GUID code: "), of(&|p| p.kind.clone()), "{text}");
    assert_eq!(values("Partition unique GUID: "), of(&|p| p.uuid.clone()), "{text}");
    assert_eq!(values("Attribute flags: "), of(&|p| format!("{:016X}", p.attributes)), "{text}");
    if partitions.iter().all(|p| p.name.is_ascii() && !p.name.contains(" (")) {
        assert_eq!(values("Partition name: "), of(&|p| format!("'{}'", p.name)), "{text}");
    }
}

/// Asserts that `sfdisk -d` is a description that matches what ka reads from the disk.
pub fn check_dump(disk: &Path, sector: SectorSize) {
    let dump = tool("sfdisk", ["-d", disk.to_str().unwrap()]);
    let theirs = Description::parse(&dump, "dump").unwrap_or_else(|e| panic!("{e}\n{dump}"));
    let ours = read(disk, sector).describe().unwrap();
    assert_eq!(theirs.header().id, ours.header().id, "{dump}");
    assert_eq!(theirs.header().sector, Some(sector), "{dump}");
    let plain = |description: &Description| -> Vec<_> {
        let entries = description.entries().iter().cloned();
        entries.map(|entry| Entry { line: 0, ..entry }).collect()
    };
    assert_eq!(plain(&theirs), plain(&ours), "{dump}");
}

/// Writes a layout's table.
pub fn write(disk: &Path, layout: &Layout) {
    let file = File::options().write(true).open(disk).unwrap();
    for write in layout.writes().unwrap() {
        file.write_all_at(&write.bytes, write.offset).unwrap();
    }
}

/// A directory for images; in memory if possible, because tools flush their writes.
pub fn work_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Runs a function for every seed, eight in parallel: sfdisk and sgdisk sync all disks after writing, and
/// sgdisk sleeps for a second.
pub fn for_seeds(seeds: std::ops::Range<u64>, check: impl Fn(u64, &Path) + Sync) {
    std::thread::scope(|scope| {
        for first in seeds.clone().take(8) {
            let (check, last) = (&check, seeds.end);
            scope.spawn(move || {
                let work = work_dir();
                for seed in (first..last).step_by(8) {
                    // The test's output is captured only from its first thread.
                    let checked =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(seed, work.path())));
                    if let Err(panic) = checked {
                        eprintln!("seed {seed} fails");
                        std::panic::resume_unwind(panic);
                    }
                }
            });
        }
    });
}

/// Writes a script's table with sfdisk.
pub fn sfdisk(disk: &Path, script: &str) {
    let mut child = Command::new("sfdisk")
        .args(["-q", "--no-reread", "--no-tell-kernel", "--wipe", "never"])
        .arg(disk)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("sfdisk is needed for this test");
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{script}");
}
