//! Tables that ka writes, read by sfdisk and fdisk, and tables that sfdisk writes, read by ka.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::disk::desc::Desc;
use ka::disk::layout::Layout;
use ka::disk::mbr::{DiskSignature, Mbr, SIZE};
use ka::disk::units::{DiskSize, MB, SectorSize};
use ka_tests::loop_device::Loop;
use ka_tests::tool::tool;
use proptest::prelude::*;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// A partition as sfdisk tells it: start, size, type, bootable.
type Told = (u64, u64, String, bool);

fn told_by_sfdisk(disk: &Path) -> (String, Vec<Told>) {
    let json: serde_json::Value =
        serde_json::from_str(&tool("sfdisk", ["-J", disk.to_str().unwrap()])).unwrap();
    let table = &json["partitiontable"];
    let one = |p: &serde_json::Value| {
        let number = |key: &str| p[key].as_u64().unwrap();
        let kind = p["type"].as_str().unwrap().to_owned();
        (number("start"), number("size"), kind, p["bootable"].as_bool().unwrap_or(false))
    };
    let partitions = table["partitions"].as_array().map(|all| all.iter().map(one).collect());
    (table["id"].as_str().unwrap().to_owned(), partitions.unwrap_or_default())
}

fn told_by_us(disk: &Path) -> (String, Vec<Told>) {
    let mut sector = [0; SIZE];
    File::open(disk).unwrap().read_exact_at(&mut sector, 0).unwrap();
    let mbr = Mbr::decode(&sector).unwrap();
    let partitions = mbr.entries.iter().flatten();
    let partitions = partitions.map(|e| (e.start.0, e.size.0, format!("{:x}", e.kind), e.active));
    (format!("0x{:08x}", mbr.signature.0), partitions.collect())
}

fn check(disk: &Path) {
    assert_eq!(told_by_us(disk), told_by_sfdisk(disk));
    let disk = disk.to_str().unwrap();
    let verdict = tool("sfdisk", ["--verify", disk]);
    assert!(verdict.contains("No errors detected"), "{verdict}");
    let output = Command::new("fdisk").args(["-l", disk]).env("LC_ALL", "C").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    for complaint in
        ["not start on physical sector", "overlap", "not in disk order", "different physical", "inconsisten"]
    {
        assert!(!text.contains(complaint), "{text}");
    }
}

fn image(bytes: u64) -> tempfile::NamedTempFile {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(bytes).unwrap();
    image
}

fn sfdisk(disk: &Path, script: &str) {
    let mut child = Command::new("sfdisk")
        .args(["-q", "--no-reread", "--no-tell-kernel"])
        .arg(disk)
        .stdin(Stdio::piped())
        .spawn()
        .expect("sfdisk is needed for this test");
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{script}");
}

fn write(disk: &Path, bytes: u64, sector: SectorSize, desc: &str, signature: u32) {
    let layout = Layout::new(&Desc::parse(desc, "desc").unwrap(), DiskSize::of_bytes(bytes, sector)).unwrap();
    let table = Mbr::of(&layout, DiskSignature(signature)).encode().unwrap();
    File::options().write(true).open(disk).unwrap().write_all_at(&table, 0).unwrap();
}

fn kind() -> impl Strategy<Value = u8> {
    any::<u8>().prop_filter("types with a meaning of their own", |t| !matches!(t, 0 | 5 | 0xf | 0x85 | 0xee))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn sfdisk_reads_what_we_write(
        sizes in prop::collection::vec((1..100_000_u64, kind()), 1..=4),
        fill in 0..8_usize,
        rest in 1..3_000_000_u64,
        signature in 1_u32..,
    ) {
        let total = (1 + rest + sizes.iter().map(|(mb, _)| mb).sum::<u64>()).min(2 << 20) * MB;
        let image = image(total);
        let lines = sizes.iter().enumerate().map(|(i, (mb, kind))| {
            if i == fill { format!("type{kind:x} fill\n") } else { format!("type{kind:x} {mb}\n") }
        });
        write(image.path(), total, SectorSize::B512, &lines.collect::<String>(), signature);
        check(image.path());
    }

    #[test]
    fn we_read_what_sfdisk_writes(
        sizes in prop::collection::vec((1..100_000_u64, 1..4000_u64, kind(), any::<bool>()), 1..=4),
        signature in 1_u32..,
    ) {
        let mut script = format!("label: dos\nlabel-id: 0x{signature:08x}\n");
        let mut next = 2048;
        let mut bootable = true;
        for (size, gap, kind, wants_flag) in &sizes {
            let flag = if *wants_flag && bootable { ", bootable" } else { "" };
            bootable &= !wants_flag;
            script += &format!("start={}, size={size}, type={kind:x}{flag}\n", next + gap);
            next += gap + size;
        }
        let image = image((next + 2048) * 512);
        sfdisk(image.path(), &script);
        prop_assert_eq!(told_by_us(image.path()), told_by_sfdisk(image.path()));
    }
}

#[test]
fn sfdisk_reads_tables_of_large_disks() {
    let two_tib = 2 << 40;
    let image = image(two_tib);
    write(image.path(), two_tib, SectorSize::B512, "linux 1\nswap 8000\nlinux fill\n", 0xdead_beef);
    check(image.path());
}

#[test]
fn sfdisk_reads_tables_of_disks_with_4096_byte_sectors() {
    let bytes = 10_000 * MB;
    let disk = Loop::new(bytes, 4096);
    write(Path::new(disk.node()), bytes, SectorSize::B4096, "linux 100\nlinux fill\nswap 300\ntype8e 7\n", 1);
    check(Path::new(disk.node()));
}

/// The three bytes of cylinder, head and sector are as sfdisk writes them.
#[test]
fn tables_are_the_same_bytes_as_sfdisks() {
    let bytes = 100_000 * MB;
    let (ours, theirs) = (image(bytes), image(bytes));
    write(ours.path(), bytes, SectorSize::B512, "linux 1\nlinux 7000\nswap 2000\nlinux 50000\n", 0x1234_5678);
    sfdisk(
        theirs.path(),
        "label: dos\nlabel-id: 0x12345678\nstart=1MiB, size=1MiB, type=83\nstart=2MiB, size=7000MiB, type=83\n\
         start=7002MiB, size=2000MiB, type=82\nstart=9002MiB, size=50000MiB, type=83\n",
    );
    let table = |image: &tempfile::NamedTempFile| {
        let mut sector = [0; SIZE];
        image.as_file().read_exact_at(&mut sector, 0).unwrap();
        sector
    };
    assert_eq!(table(&ours), table(&theirs));
}
