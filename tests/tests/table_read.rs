//! Tables written by sfdisk, sgdisk and parted: ka reads them like these tools do, and writes them again from
//! the dump alone.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::disk::description::{Description, DiskId};
use ka::disk::ids::Seed;
use ka::disk::kind::TableKind;
use ka::disk::layout::{Layout, Least, Placing};
use ka::disk::mbr;
use ka::disk::table::{Finding, Table};
use ka::disk::units::{MB, SectorSize};
use ka_tests::loop_device::Loop;
use ka_tests::sim::random::Random;
use ka_tests::tables;
use ka_tests::tool::{run, tool};
use std::fmt::Write;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const TB: u64 = 1024 * 1024 * MB;

/// An image file that is recreated for every table.
struct Image {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Image {
    fn new() -> Self {
        let dir = tables::work_dir();
        Self { path: dir.path().join("disk"), _dir: dir }
    }

    fn blank(&self, bytes: u64) -> &Path {
        blank(&self.path, bytes);
        &self.path
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        File::options().write(true).open(&self.path).unwrap().write_all_at(bytes, at).unwrap();
    }

    fn bytes(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        File::open(&self.path).unwrap().read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    fn read(&self) -> Table {
        tables::read(&self.path, SectorSize::B512)
    }
}

fn blank(disk: &Path, bytes: u64) {
    File::create(disk).unwrap().set_len(bytes).unwrap();
}

/// ka reads the same as sfdisk and sgdisk.
fn judge(disk: &Path, sector: SectorSize) {
    let table = tables::read(disk, sector);
    assert_eq!(table.findings, []);
    let ours = tables::by_us(disk, sector);
    tables::same(&ours, &tables::by_sfdisk(disk));
    if table.kind() == TableKind::Gpt {
        tables::check_by_sgdisk(disk, TableKind::Gpt, &ours);
    }
    tables::check_dump(disk, sector);
}

/// The dump is sufficient to create the same table on a disk of the same size.
fn write_again(disk: &Path, clone: &Path, sector: SectorSize) {
    let golden = tables::by_sfdisk(disk);
    let dump = tool("sfdisk", ["-d", disk.to_str().unwrap()]);
    let description = Description::parse(&dump, "dump").unwrap();
    let placing = Placing { keep_ids: true, scale: None };
    let size = tables::size_of(disk, sector);
    let layout = Layout::new(&description, size, &placing, &Least::new(), &Seed([9; 32])).unwrap();
    File::create(clone).unwrap().set_len(size.bytes()).unwrap();
    tables::write(clone, &layout);
    if let Some(active) = layout.partitions.iter().find(|p| p.bootable) {
        let file = File::options().read(true).write(true).open(clone).unwrap();
        let mut first = [0; mbr::SIZE];
        file.read_exact_at(&mut first, 0).unwrap();
        mbr::set_active(&mut first, active.number).unwrap();
        file.write_all_at(&first, 0).unwrap();
    }
    tables::same(&tables::by_sfdisk(clone), &golden);
    tables::verify(clone);
}

/// A script with start sectors: primaries, and an extended partition with logical partitions at least `gap`
/// sectors apart.
fn mbr_script(random: &mut Random, logicals: u64, scale: u64, gap: u64) -> (String, u64) {
    let mut text = format!("label: dos\nlabel-id: {:#010x}\n", random.between(1, u32::MAX.into()));
    let mut next = if random.chance(30) { 63 } else { 2048 };
    let extended = random.between(1, 4);
    let mut active = random.between(1, 8);
    let kind = |random: &mut Random| loop {
        let kind = random.between(1, 0xff);
        if !matches!(kind, 5 | 0xf | 0x85 | 0xee) {
            break kind;
        }
    };
    for number in 1..=4 {
        if number == extended && logicals > 0 {
            let (start, mut inside) = (next, String::new());
            for logical in 0..logicals {
                next += [gap, gap, random.between(gap, 9000)][random.index(3)];
                let size = random.between(1, scale);
                let _ =
                    writeln!(inside, "d{}: start={next}, size={size}, type={:x}", 5 + logical, kind(random));
                next += size;
            }
            let extended_kind = ["5", "f", "85"][random.index(3)];
            let _ = writeln!(text, "d{number}: start={start}, size={}, type={extended_kind}", next - start);
            text += &inside;
        } else if random.chance(60) || extended == number {
            let size = random.between(1, scale);
            let flag = if active == number { ", bootable" } else { "" };
            active = if active == number { 0 } else { active };
            let _ = writeln!(text, "d{number}: start={next}, size={size}, type={:x}{flag}", kind(random));
            next += size;
        }
        next += random.between(0, 5000);
    }
    (text, (next + random.between(1, 5000)) * 512)
}

#[test]
fn mbrs_of_sfdisk() {
    tables::for_seeds(0..420, |seed, work| {
        let (disk, clone) = (work.join("disk"), work.join("clone"));
        let mut random = Random::new(seed);
        let logicals = if random.chance(75) { random.between(1, 50) } else { 0 };
        let (script, bytes) = mbr_script(&mut random, logicals, 10_000, 2048);
        blank(&disk, bytes);
        tables::sfdisk(&disk, &script);
        judge(&disk, SectorSize::B512);
        write_again(&disk, &clone, SectorSize::B512);
    });
}

/// Logical partitions separated by at most a track or a sector, as old tools created them. sfdisk reads these
/// but does not create them, so ka creates them.
#[test]
fn logicals_that_lie_close_together() {
    tables::for_seeds(500..560, |seed, work| {
        let (disk, clone) = (work.join("disk"), work.join("clone"));
        let mut random = Random::new(seed);
        let logicals = random.between(1, 56);
        let gap = [1, 63][random.index(2)];
        let (script, bytes) = mbr_script(&mut random, logicals, 10_000, gap);
        blank(&disk, bytes);
        let description = Description::parse(&script, "script").unwrap();
        let size = tables::size_of(&disk, SectorSize::B512);
        let layout =
            Layout::new(&description, size, &Placing::default(), &Least::new(), &Seed([9; 32])).unwrap();
        tables::write(&disk, &layout);
        tables::same(&tables::by_us(&disk, SectorSize::B512), &tables::of_layout(&layout));
        judge(&disk, SectorSize::B512);
        tables::verify(&disk);
        write_again(&disk, &clone, SectorSize::B512);
    });
}

/// A script with starts and gaps, whose unit is one sector of a disk.
fn gpt_script(random: &mut Random, sectors: u64, first: u64) -> String {
    let mut text = "label: gpt\n".to_owned();
    if random.chance(10) {
        let _ = writeln!(text, "table-length: {}", [128, 256, 1024][random.index(3)]);
    }
    let count = random.between(1, 16);
    let share = (sectors - 2 * first - 4096) / count;
    let mut number = 0;
    for place in 0..count {
        number += random.between(1, 6);
        let start = first + place * share + random.between(0, share / 3);
        let size = random.between(1, share / 2);
        let _ = write!(text, "d{number}: start={start}, size={size}");
        if random.chance(60) {
            let kind = ["U", "S", "H", "R", "V", "L"][random.index(6)];
            let _ = write!(text, ", type={kind}");
        }
        if random.chance(40) {
            let name = ["a name", "\\xc3\\xa9t\\xc3\\xa9", "x"][random.index(3)];
            let _ = write!(text, ", name=\"{name}\"");
        }
        if random.chance(30) {
            let _ = write!(text, ", attrs=\"GUID:{}\"", random.between(48, 63));
        }
        text.push('\n');
    }
    text
}

#[test]
fn gpts_of_sfdisk() {
    tables::for_seeds(1000..1300, |seed, work| {
        let (disk, clone) = (work.join("disk"), work.join("clone"));
        let mut random = Random::new(seed);
        let large = random.chance(40);
        let bytes = if large { random.between(2 * TB, 14 * TB) } else { random.between(64 * MB, TB) };
        let script = gpt_script(&mut random, bytes / 512, 2048);
        blank(&disk, bytes);
        tables::sfdisk(&disk, &script);
        judge(&disk, SectorSize::B512);
        write_again(&disk, &clone, SectorSize::B512);
    });
}

#[test]
fn gpts_of_sgdisk() {
    tables::for_seeds(2000..2060, |seed, work| {
        let disk = work.join("disk");
        let mut random = Random::new(seed);
        let bytes = random.between(64 * MB, 3 * TB);
        blank(&disk, bytes);
        run("sgdisk", &sgdisk_arguments(&mut random, bytes / 512, &disk));
        judge(&disk, SectorSize::B512);
    });
}

fn sgdisk_arguments(random: &mut Random, sectors: u64, disk: &Path) -> Vec<String> {
    let count = random.between(1, 12);
    let share = (sectors - 8192) / count;
    let mut arguments = vec!["-a".to_owned(), "1".to_owned()];
    for number in 1..=count {
        let start = 2048 + (number - 1) * share + random.between(0, share / 3);
        arguments.push(format!("-n{number}:{start}:{}", start + random.between(0, share / 2)));
        let kind = ["8300", "8200", "ef00", "ef02", "fd00", "8e00", "0700", "8302"][random.index(8)];
        arguments.push(format!("-t{number}:{kind}"));
        if random.chance(40) {
            arguments.push(format!("-c{number}:name {number}"));
        }
        if random.chance(30) {
            arguments.push(format!("-A{number}:set:{}", [0, 1, 2, 60, 63][random.index(5)]));
        }
    }
    arguments.push(disk.to_str().unwrap().to_owned());
    arguments
}

#[test]
fn tables_with_4096_byte_sectors() {
    let size = 5 * TB;
    let device = Loop::new(size, 4096);
    let disk = Path::new(device.node());
    for seed in 3000..3060 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        // No other table may remain.
        let file = File::options().write(true).open(disk).unwrap();
        for at in [0, size - 64 * 1024] {
            file.write_all_at(&[0; 64 * 1024], at).unwrap();
        }
        match seed % 20 {
            10..20 => {
                let logicals = random.between(5, 30);
                tables::sfdisk(disk, &mbr_script(&mut random, logicals, 1_000_000, 2048).0);
            }
            1..10 => tables::sfdisk(disk, &gpt_script(&mut random, size / 4096, 256)),
            _ => run("sgdisk", &sgdisk_arguments(&mut random, size / 4096, disk)),
        }
        judge(disk, SectorSize::B4096);
    }
}

/// A PC with Windows: XP's layout (tracks of 63 sectors), and today's with a recovery partition.
#[test]
fn mbrs_of_windows() {
    let (image, clone) = (Image::new(), Image::new());
    for script in [
        "label: dos\nstart=63, size=20482812, type=7, bootable\nstart=20482875, size=10233405, type=f\n\
         start=20482938, size=10233342, type=b\n",
        "label: dos\nstart=2048, size=1024000, type=7, bootable\nstart=1026048, size=36000000, type=7\n\
         start=37027840, size=1046528, type=27\n",
    ] {
        tables::sfdisk(image.blank(20_000 * MB), script);
        judge(&image.path, SectorSize::B512);
        write_again(&image.path, &clone.path, SectorSize::B512);
        // Boot code is not part of the table.
        image.write(0, &[0xfa; 440]);
        judge(&image.path, SectorSize::B512);
    }
}

/// sfdisk reads at most 56 of them; parted creates and reads more.
#[test]
fn sixty_logical_partitions() {
    let image = Image::new();
    let disk = image.blank(10_000 * MB).to_str().unwrap();
    let mut commands = "mklabel msdos mkpart primary 1MiB 50MiB mkpart extended 50MiB 100%".to_owned();
    for number in 1..=60 {
        let _ = write!(commands, " mkpart logical {}MiB {}MiB", number * 100, number * 100 + 50);
    }
    run("parted", ["-s", disk].into_iter().chain(commands.split(' ')));
    let told = tool("parted", ["-ms", disk, "unit", "s", "print"]);
    let theirs: Vec<_> = told.lines().filter_map(|line| line.split_once(':')).skip(1).collect();
    let theirs: Vec<_> =
        theirs.iter().map(|(n, rest)| format!("{n}:{}", &rest[..rest.rfind("s:").unwrap()])).collect();
    let table = image.read();
    assert_eq!(table.findings, []);
    let ours = table
        .partitions
        .iter()
        .map(|p| format!("{}:{}s:{}s:{}", p.number, p.start.0, p.end().0 - 1, p.size.0));
    assert_eq!(ours.collect::<Vec<_>>(), theirs);
    assert_eq!(table.partitions.last().unwrap().number, 64);
    // And parted reads them again when ka has written them.
    let description = table.describe().unwrap();
    let placing = Placing { keep_ids: true, scale: None };
    let layout = Layout::new(&description, table.disk, &placing, &Least::new(), &Seed([9; 32])).unwrap();
    tables::write(image.blank(10_000 * MB), &layout);
    let again = tool("parted", ["-ms", &image.path.to_string_lossy(), "unit", "s", "print"]);
    let places = |text: &str| -> Vec<String> {
        text.lines().skip(2).map(|line| line.split(':').take(4).collect::<Vec<_>>().join(":")).collect()
    };
    assert_eq!(places(&again), places(&told));
}

fn gpt_image() -> Image {
    let image = Image::new();
    let script = "label: gpt\nstart=4096, size=40000, type=U, name=\"EFI\"\nd5: start=100000, size=50000\n";
    tables::sfdisk(image.blank(100 * MB), script);
    image
}

#[test]
fn an_active_protective_mbr_is_noticed() {
    let image = gpt_image();
    assert_eq!(image.read().findings, []);
    image.write(446, &[0x80]);
    assert_eq!(image.read().findings, [Finding::ProtectiveActive]);
}

#[test]
fn a_gpt_with_a_damaged_copy() {
    let partitions = gpt_image().read().partitions;
    assert_eq!(partitions.len(), 2);
    let last = 100 * MB - 512;
    // Header, entries, header of the backup, entries of the backup.
    for (at, primary) in
        [(512 + 56, true), (1024 + 40, true), (last + 56, false), (last - 512 * 32 + 5, false)]
    {
        let image = gpt_image();
        let uuids: Vec<_> = image.read().partitions.iter().map(|p| p.uuid).collect();
        let byte = image.bytes(at, 1)[0];
        image.write(at, &[byte ^ 0x10]);
        let table = image.read();
        let found = matches!(
            (table.findings.as_slice(), primary),
            ([Finding::PrimaryDamaged(_)], true) | ([Finding::BackupDamaged(_)], false)
        );
        assert!(found, "{at}: {:?}", table.findings);
        assert_eq!(table.partitions.iter().map(|p| p.uuid).collect::<Vec<_>>(), uuids);
        tables::same(&tables::by_us(&image.path, SectorSize::B512), &tables::by_sfdisk(&image.path));
        assert!(!table.findings.iter().any(Finding::is_damage));
    }
    let image = gpt_image();
    image.write(512, &[0; 512]);
    image.write(last, &[0; 512]);
    let error =
        Table::read(&mut File::open(&image.path).unwrap(), tables::size_of(&image.path, SectorSize::B512));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("the MBR announces a GPT, but neither copy is valid"), "{error}");
}

#[test]
fn a_gpt_on_a_disk_of_another_size() {
    let image = gpt_image();
    let file = File::options().write(true).open(&image.path).unwrap();
    file.set_len(200 * MB).unwrap();
    let made = 100 * MB / 512;
    let table = image.read();
    assert_eq!(table.findings, [Finding::OtherSize { made, found: 2 * made }]);
    assert_eq!(table.partitions.len(), 2);
    file.set_len(90 * MB).unwrap();
    let table = image.read();
    assert!(
        matches!(table.findings.as_slice(), [Finding::OtherSize { .. }, Finding::BackupDamaged(_)]),
        "{:?}",
        table.findings
    );
}

#[test]
fn hybrid_and_stale_gpts() {
    let image = gpt_image();
    run("sgdisk", ["-h", "1", image.path.to_str().unwrap()]);
    let table = image.read();
    assert!(matches!(table.findings.as_slice(), [Finding::Hybrid(kinds)] if kinds.len() == 1), "{table:?}");
    assert!(matches!(table.id, DiskId::Gpt(_)));
    assert_eq!(table.partitions.len(), 2);

    // An MBR written over the protective one: sfdisk and the kernel use it.
    let mbr = Image::new();
    tables::sfdisk(mbr.blank(100 * MB), "label: dos\nstart=2048, size=1000\n");
    let image = gpt_image();
    image.write(0, &mbr.bytes(0, 512));
    let table = image.read();
    assert_eq!(table.findings, [Finding::StaleGpt]);
    tables::same(&tables::by_us(&image.path, SectorSize::B512), &tables::by_sfdisk(&image.path));
}

#[test]
fn overlapping_partitions() {
    let image = Image::new();
    let script = "label: dos\nstart=2048, size=10000\nstart=20000, size=10000\nstart=40000, size=50000, type=5\n\
        start=42048, size=1000\n";
    tables::sfdisk(image.blank(100 * MB), script);
    assert_eq!(image.read().findings, []);
    // The first partition's size.
    image.write(446 + 12, &18_000_u32.to_le_bytes());
    let table = image.read();
    assert_eq!(table.findings, [Finding::Overlap(1, 2)]);
    assert!(table.findings.iter().any(Finding::is_damage));
    // The logical partition's size.
    image.write(446 + 12, &10_000_u32.to_le_bytes());
    image.write(40_000 * 512 + 446 + 12, &60_000_u32.to_le_bytes());
    assert_eq!(image.read().findings, [Finding::OutsideExtended(5)]);
    image.write(446 + 16 + 12, &u32::MAX.to_le_bytes());
    assert!(image.read().findings.contains(&Finding::BeyondDisk(2)));
}

/// The kernel would follow this loop for ever if it did not count.
#[test]
fn a_chain_of_logical_partitions_that_loops() {
    let image = Image::new();
    let script =
        "label: dos\nstart=2048, size=100000, type=5\nd5: start=4096, size=1000\nd6: start=9000, size=1000\n";
    tables::sfdisk(image.blank(100 * MB), script);
    judge(&image.path, SectorSize::B512);
    let second = image.read().partitions.last().unwrap().ebr.unwrap().0 * 512;
    let mut link = image.bytes(2048 * 512 + 446 + 16, 16);
    link[8..12].fill(0);
    image.write(second + 446 + 16, &link);
    let table = image.read();
    assert!(matches!(table.findings.as_slice(), [Finding::EbrLoop { last: 6, .. }]), "{table:?}");
    assert_eq!(table.partitions.len(), 3);
}
