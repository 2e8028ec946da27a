//! Whole disks, from `/sys/block`.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use ka::inventory::Disk;

use super::{Tree, names, text, told};

/// sysfs counts in sectors of 512 bytes, whatever the device's own are.
const SYSFS_SECTOR: u64 = 512;

/// The machine's disks, by name.
pub(super) fn disks(tree: &Tree) -> Vec<Disk> {
    let busy = Busy::read(tree);
    names(&tree.sys.join("block"))
        .into_iter()
        .filter(|name| is_disk(name))
        .filter_map(|name| disk(tree, name, &busy))
        .collect()
}

fn disk(tree: &Tree, name: String, busy: &Busy) -> Option<Disk> {
    let folder = tree.sys.join("block").join(&name);
    // A path of a multipath NVMe device, which is a disk of its own under another name.
    if text(&folder.join("hidden")) == "1" {
        return None;
    }
    // A card reader without a card.
    let size = size(&folder)?;
    Some(Disk {
        size,
        sector_size: text(&folder.join("queue/logical_block_size")).parse().unwrap_or(512),
        model: first(&folder, &["device/model", "device/name"]),
        serial: serial(&folder),
        removable: text(&folder.join("removable")) == "1",
        in_use: busy.has(&folder, &name),
        table: None,
        contents: Vec::new(),
        name,
    })
}

/// Size in bytes; none if there is no medium.
pub(super) fn size(folder: &Path) -> Option<u64> {
    let sectors: u64 = text(&folder.join("size")).parse().ok()?;
    sectors.checked_mul(SYSFS_SECTOR).filter(|size| *size > 0)
}

/// The partitions of a disk, as the kernel knows them.
pub(super) fn partitions(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| folder.join(name).join("partition").exists()).collect()
}

/// No loop devices, RAM disks, optical or floppy drives, nothing that is made of other disks, and no areas of an
/// eMMC chip that hold its firmware.
fn is_disk(name: &str) -> bool {
    const NOT_DISKS: [&str; 8] = ["loop", "ram", "zram", "sr", "fd", "md", "dm-", "mtdblock"];
    let numbered = |kind: &str| {
        name.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let firmware = name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb"));
    !NOT_DISKS.into_iter().any(numbered) && !firmware
}

fn first(folder: &Path, attributes: &[&str]) -> String {
    attributes
        .iter()
        .map(|path| told(&text(&folder.join(path))))
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

/// NVMe and MMC have `device/serial`, virtio has `serial`, SCSI and ATA have it in page 0x80 of the vital product
/// data; `wwid` at last, which is no serial number but names the disk as well.
fn serial(folder: &Path) -> String {
    let told = first(folder, &["device/serial", "serial"]);
    if !told.is_empty() {
        return told;
    }
    let page = fs::read(folder.join("device/vpd_pg80")).ok().and_then(|page| unit_serial(&page));
    page.filter(|serial| !serial.is_empty()).unwrap_or_else(|| first(folder, &["wwid", "device/wwid"]))
}

/// The unit serial number page: SPC-4, 7.8.14. Two bytes of kind, two of length, then text.
fn unit_serial(page: &[u8]) -> Option<String> {
    let (header, rest) = page.split_first_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let serial = rest.get(..length.min(rest.len()))?;
    Some(told(&String::from_utf8_lossy(serial)))
}

/// What is mounted or swapped to.
struct Busy {
    /// `MAJOR:MINOR`.
    numbers: HashSet<String>,
    /// Device nodes: a file system of several devices is mounted from one that has no number of its own.
    nodes: HashSet<String>,
}

impl Busy {
    fn read(tree: &Tree) -> Self {
        let (mut numbers, mut nodes) = (HashSet::new(), HashSet::new());
        // proc_pid_mountinfo(5): ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG]… - TYPE SOURCE OPTIONS
        for line in text(&tree.proc.join("self/mountinfo")).lines() {
            numbers.extend(line.split(' ').nth(2).map(str::to_owned));
            let source = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').nth(1));
            nodes.extend(source.and_then(|source| source.strip_prefix("/dev/")).map(str::to_owned));
        }
        for line in text(&tree.proc.join("swaps")).lines().skip(1) {
            let node = line.split_whitespace().next().and_then(|path| path.strip_prefix("/dev/"));
            nodes.extend(node.map(str::to_owned));
        }
        Self { numbers, nodes }
    }

    /// The disk or one of its partitions is in use.
    fn has(&self, folder: &Path, name: &str) -> bool {
        let parts = partitions(folder);
        let parts = parts.iter().map(|part| (folder.join(part), part.as_str()));
        std::iter::once((folder.to_owned(), name)).chain(parts).any(|(folder, name)| {
            self.numbers.contains(&text(&folder.join("dev")))
                || self.nodes.contains(&name.replace('!', "/"))
                || !names(&folder.join("holders")).is_empty()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Fake {
        root: tempfile::TempDir,
    }

    impl Fake {
        fn new() -> Self {
            Self { root: tempfile::tempdir().unwrap() }
        }

        fn file(&self, path: &str, bytes: impl AsRef<[u8]>) -> &Self {
            let path = self.root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
            self
        }

        fn disk(&self, name: &str, number: &str, sectors: &str) -> &Self {
            let folder = format!("sys/block/{name}");
            self.file(&format!("{folder}/dev"), number).file(&format!("{folder}/size"), sectors);
            fs::create_dir_all(self.root.path().join(folder).join("holders")).unwrap();
            self
        }

        fn disks(&self) -> Vec<Disk> {
            let at = |folder: &str| -> PathBuf { self.root.path().join(folder) };
            disks(&Tree { sys: at("sys"), proc: at("proc") })
        }
    }

    #[test]
    fn only_disks_are_disks() {
        let fake = Fake::new();
        for (i, name) in [
            "sda",
            "sdaa",
            "vdb",
            "nvme0n1",
            "mmcblk0",
            "loop0",
            "ram1",
            "zram0",
            "sr0",
            "fd0",
            "md0",
            "dm-1",
            "mmcblk0boot0",
        ]
        .into_iter()
        .enumerate()
        {
            fake.disk(name, &format!("1:{i}"), "2048\n");
        }
        fake.disk("sdc", "8:32", "0\n")
            .disk("nvme0c0n1", "259:9", "2048\n")
            .file("sys/block/nvme0c0n1/hidden", "1\n");
        let names: Vec<String> = fake.disks().into_iter().map(|disk| disk.name).collect();
        assert_eq!(names, ["sda", "vdb", "sdaa", "mmcblk0", "nvme0n1"]);
    }

    #[test]
    fn a_disk_says_what_it_is() {
        let fake = Fake::new();
        fake.disk("sda", "8:0", "7814037168\n")
            .file("sys/block/sda/queue/logical_block_size", "4096\n")
            .file("sys/block/sda/removable", "1\n")
            .file("sys/block/sda/device/model", "ST4000DM004-2CV1\n")
            .file("sys/block/sda/device/vpd_pg80", b"\0\x80\0\x14            ZFN0ABCD")
            .disk("vda", "254:0", "2048\n")
            .file("sys/block/vda/serial", "golden-1\n")
            .disk("sdb", "8:16", "2048\n")
            .file("sys/block/sdb/device/wwid", "naa.5000c500a1b2c3d4\n");
        let disks = fake.disks();
        let [sda, sdb, vda] = disks.as_slice() else { panic!("{disks:?}") };
        assert_eq!(sda.size, 4_000_787_030_016);
        assert_eq!((sda.sector_size, sda.removable), (4096, true));
        assert_eq!((sda.model.as_str(), sda.serial.as_str()), ("ST4000DM004-2CV1", "ZFN0ABCD"));
        assert_eq!((vda.model.as_str(), vda.serial.as_str()), ("", "golden-1"));
        assert_eq!((sdb.sector_size, sdb.serial.as_str()), (512, "naa.5000c500a1b2c3d4"));
    }

    #[test]
    fn a_disk_in_use_is_told() {
        let fake = Fake::new();
        for (name, number) in [
            ("sda", "8:0"),
            ("sdb", "8:16"),
            ("sdc", "8:32"),
            ("sdd", "8:48"),
            ("sde", "8:64"),
            ("sdf", "8:80"),
        ] {
            fake.disk(name, number, "2048");
        }
        fake.file("sys/block/sda/sda1/partition", "1")
            .file("sys/block/sda/sda1/dev", "8:1")
            .file("sys/block/sdb/sdb2/partition", "2")
            .file("sys/block/sdc/sdc1/partition", "1")
            .file("sys/block/sdc/sdc1/holders/dm-0/dev", "253:0")
            .file("proc/swaps", "Filename Type Size Used Priority\n/dev/sdb2 partition 1 0 -2\n")
            .file(
                "proc/self/mountinfo",
                "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
                 23 22 0:40 / /data rw - btrfs /dev/sdd rw\n\
                 24 22 8:64 / /mnt rw - ext4 /dev/sde rw\n",
            );
        let busy: Vec<bool> = fake.disks().iter().map(|disk| disk.in_use).collect();
        assert_eq!(busy, [true, true, true, true, true, false]);
    }

    #[test]
    fn a_serial_page_is_read_within_its_bounds() {
        for (page, serial) in [
            (&b""[..], None),
            (b"\0\x80\0", None),
            (b"\0\x80\0\0", Some("")),
            (b"\0\x80\0\x04AB  more", Some("AB")),
            (b"\0\x80\xff\xffAB\0", Some("AB")),
        ] {
            assert_eq!(unit_serial(page).as_deref(), serial);
        }
    }
}
