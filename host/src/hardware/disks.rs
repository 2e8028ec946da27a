//! Whole disks, from `/sys/block`.

use std::fs::File;
use std::path::Path;

use ka::inventory::Disk;
use ka::inventory::identity::{self, Backing, DiskIdentity};

use super::identity::Identity;
use super::{Tree, attachment, names, text};
use crate::bus::{self, Attachment};
use crate::sys::loops;
use crate::usage::Users;

/// sysfs counts in units of 512 bytes, regardless of the device's sector size.
const SYSFS_SECTOR: u64 = 512;

/// The machine's disks, sorted by name.
pub(super) fn disks(tree: &Tree) -> Vec<Disk> {
    all(tree).into_iter().filter(|disk| disk.bus != "loop").collect()
}

/// The disks, and the loop devices with a backing file: everything that a person may name.
pub(super) fn all(tree: &Tree) -> Vec<Disk> {
    let users = Users::read(&tree.sys, &tree.proc)
        .inspect_err(|e| log::warn!("cannot tell which disks are in use: {e}"))
        .ok();
    let found = names(&tree.sys.join("block")).into_iter().filter(|name| is_disk(name));
    let mut disks: Vec<(Disk, String)> = found.filter_map(|name| disk(tree, name, users.as_ref())).collect();
    // Devices with the same worldwide name are one disk on several paths: multipath, with or without a
    // multipath device.
    let names: Vec<String> =
        disks.iter().map(|(_, wwid)| wwid.clone()).filter(|wwid| !wwid.is_empty()).collect();
    for (disk, wwid) in &mut disks {
        disk.network |= names.iter().filter(|other| *other == wwid).count() > 1;
    }
    let mut disks: Vec<Disk> = disks.into_iter().map(|(disk, _)| disk).collect();
    identity::keep_what_tells(&mut disks);
    disks
}

fn disk(tree: &Tree, name: String, users: Option<&Users>) -> Option<(Disk, String)> {
    let folder = tree.sys.join("block").join(&name);
    // A path of a multipath NVMe device: the same disk under another name.
    if text(&folder.join("hidden")) == "1" {
        return None;
    }
    // A card reader without a card, or a loop device without a file.
    let size = size(&folder)?;
    let (bus, network) = match bus::of(&tree.sys, &name) {
        Ok(Attachment::Disk { bus, network }) => (bus, network),
        // Disks of an unknown kind are never written to.
        Ok(Attachment::Partition | Attachment::Other) => ("", true),
        Err(e) => {
            log::warn!("{name}: cannot tell how it is attached: {e}");
            ("", true)
        }
    };
    let found = Identity::read(tree, &name, bus);
    let sector_size = text(&folder.join("queue/logical_block_size")).parse().unwrap_or(512);
    let identity = DiskIdentity {
        size,
        sector_size,
        wwid: found.wwid.clone(),
        serial: found.own_serial.clone(),
        path: attachment::of(tree, &name),
        boot: boot(tree),
        sequence: text(&folder.join("diskseq")).parse().ok(),
        backing: if bus == "loop" { backing(tree, &name) } else { None },
    };
    let usage = match users.map(|users| users.of(&name)) {
        Some(Ok(None)) => None,
        Some(Ok(Some(usage))) => Some(usage.to_string()),
        Some(Err(e)) => Some(format!("whether it is in use is unknown ({e})")),
        None => Some("whether it is in use is unknown".to_owned()),
    };
    let disk = Disk {
        size,
        sector_size,
        model: found.model,
        serial: found.serial,
        bus: bus.to_owned(),
        external: bus::is_external(&tree.sys, &name),
        by_id: found.by_id,
        network,
        removable: text(&folder.join("removable")) == "1" || bus::is_sd_card(&tree.sys, &name),
        in_use: usage.is_some(),
        usage,
        table: None,
        contents: Vec::new(),
        identity,
        name,
    };
    Some((disk, found.wwid))
}

/// Identifies this boot of the machine: the first part of the kernel's random boot id.
fn boot(tree: &Tree) -> String {
    const ENOUGH: usize = 13;
    text(&tree.proc.join("sys/kernel/random/boot_id")).chars().take(ENOUGH).collect()
}

/// The backing file of a loop device; `None` if the device cannot be queried.
fn backing(tree: &Tree, name: &str) -> Option<Backing> {
    let device = File::open(tree.dev.join(name)).ok()?;
    let status =
        loops::status(&device).inspect_err(|e| log::warn!("{name}: its backing file is unknown: {e}"));
    let loops::Status { device, inode, of_device, offset, limit } = status.ok()??;
    Some(Backing { device, inode, of_device, offset, limit })
}

/// The size in bytes; `None` without a medium.
pub(super) fn size(folder: &Path) -> Option<u64> {
    let sectors: u64 = text(&folder.join("size")).parse().ok()?;
    sectors.checked_mul(SYSFS_SECTOR).filter(|size| *size > 0)
}

/// The partitions of a disk that the kernel knows.
pub(super) fn partitions(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| folder.join(name).join("partition").exists()).collect()
}

/// Excludes RAM disks, optical and floppy drives, devices made of other disks, and the firmware areas of eMMC
/// chips.
fn is_disk(name: &str) -> bool {
    const NOT_DISKS: [&str; 7] = ["ram", "zram", "sr", "fd", "md", "dm-", "mtdblock"];
    let numbered = |kind: &str| {
        name.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let firmware = name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb"));
    !NOT_DISKS.into_iter().any(numbered) && !firmware
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    struct Fake {
        root: tempfile::TempDir,
    }

    impl Fake {
        fn new() -> Self {
            let fake = Self { root: tempfile::tempdir().unwrap() };
            fake.file("proc/self/mountinfo", "");
            fake
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
            disks(&Tree { sys: at("sys"), proc: at("proc"), dev: at("dev") })
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
            .file("sys/block/sdb/device/wwid", "naa.5000c500a1b2c3d4\n")
            .disk("mmcblk0", "179:0", "2048\n")
            .file("sys/block/mmcblk0/removable", "0\n")
            .file("sys/block/mmcblk0/device/type", "SD\n")
            .disk("mmcblk1", "179:8", "2048\n")
            .file("sys/block/mmcblk1/device/type", "MMC\n");
        fs::create_dir_all(fake.root.path().join("dev/disk/by-id")).unwrap();
        fs::write(fake.root.path().join("dev/sdb"), "").unwrap();
        let link = fake.root.path().join("dev/disk/by-id/scsi-of-udev");
        std::os::unix::fs::symlink("../../sdb", link).unwrap();
        let disks = fake.disks();
        let [sda, sdb, vda, card, chip] = disks.as_slice() else { panic!("{disks:?}") };
        assert_eq!((card.removable, chip.removable), (true, false), "an SD card, and an eMMC");
        assert_eq!(sdb.by_id, ["scsi-35000c500a1b2c3d4", "scsi-of-udev", "wwn-0x5000c500a1b2c3d4"]);
        assert_eq!((vda.by_id.as_slice(), vda.bus.as_str()), (&["virtio-golden-1".to_owned()][..], "virtio"));
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
            ("sdg", "8:96"),
        ] {
            fake.disk(name, number, "2048");
        }
        fake.file("sys/block/sda/sda1/partition", "1")
            .file("sys/block/sda/sda1/dev", "8:1")
            .file("sys/block/sdb/sdb2/partition", "2")
            .file("sys/block/sdb/sdb2/dev", "8:18")
            .file("sys/block/sdc/sdc1/partition", "1")
            .file("sys/block/sdc/sdc1/dev", "8:33")
            .file("sys/block/sdc/sdc1/holders/dm-0/dev", "253:0")
            .file("proc/swaps", "Filename Type Size Used Priority\n/dev/sdb2 partition 1 0 -2\n")
            .file(
                "proc/self/mountinfo",
                "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
                 23 22 0:40 / /data rw - btrfs /dev/sdd rw\n\
                 24 22 8:64 / /mnt rw - ext4 /dev/sde rw\n",
            );
        fs::create_dir_all(fake.root.path().join("sys/fs/btrfs/0-1/devices/sdf")).unwrap();
        let usage: Vec<Option<String>> = fake.disks().into_iter().map(|disk| disk.usage).collect();
        let usage: Vec<Option<&str>> = usage.iter().map(Option::as_deref).collect();
        let expected = [
            "sda1 is mounted at /",
            "sdb2 is used as swap",
            "sdc1 is part of dm-0",
            "sdd is mounted at /data",
            "sde is mounted at /mnt",
            "sdf is part of the mounted btrfs 0-1",
        ];
        assert_eq!(usage[..6], expected.map(Some));
        assert_eq!(usage[6], None);
    }

    /// If the machine's mounts cannot be read, no disk is known to be free.
    #[test]
    fn what_is_not_known_is_in_use() {
        let fake = Fake::new();
        fake.disk("sda", "8:0", "2048").file("proc/self/mountinfo", "nonsense\n");
        assert!(fake.disks()[0].in_use);
    }

    #[test]
    fn a_disk_on_two_paths_is_not_this_machines_alone() {
        let fake = Fake::new();
        for (i, name) in ["sda", "sdb", "sdc"].into_iter().enumerate() {
            fake.disk(name, &format!("8:{i}"), "2048");
        }
        fake.file("sys/block/sda/device/wwid", "naa.6001\n").file("sys/block/sdb/device/wwid", "naa.6001\n");
        let network: Vec<bool> = fake.disks().iter().map(|disk| disk.network).collect();
        assert_eq!(network, [true, true, false]);
    }
}
