//! Golden names, and this node's for them; other modules' tests use them too.

use super::*;
use crate::disk::MadeOn;
use ka::plan::{FileSystemKind, GoldenNames, Subvolume};

pub(in crate::finish) const ROOT: &str = "11111111-aaaa-4aaa-8aaa-111111111111";
pub(in crate::finish) const SWAP: &str = "22222222-aaaa-4aaa-8aaa-222222222222";
pub(in crate::finish) const BTRFS: &str = "33333333-aaaa-4aaa-8aaa-333333333333";

/// A root file system and a swap space; `0…` are golden UUIDs, `ROOT` and `SWAP` the new ones.
pub(in crate::finish) fn made() -> Vec<MadeFileSystem> {
    vec![
        fs(1, ROOT, FileSystemKind::Ext4, Some("/"), Some("system")),
        fs(2, SWAP, FileSystemKind::Swap, None, None),
    ]
}

/// A btrfs, with `/` and `/home` in subvolumes.
pub(in crate::finish) fn made_btrfs() -> Vec<MadeFileSystem> {
    let subvolume = |path: &str, mount_point: &str| Subvolume {
        path: path.to_owned(),
        mount_point: Some(mount_point.to_owned()),
        default: false,
        golden_id: Some(if path == "@" { 256 } else { 257 }),
    };
    let mut btrfs = fs(3, BTRFS, FileSystemKind::Btrfs, None, None);
    btrfs.plan.subvolumes = vec![subvolume("@", "/"), subvolume("@home", "/home")];
    vec![btrfs]
}

/// The file system of golden partition `number`.
pub(in crate::finish) fn fs(
    number: u32,
    uuid: &str,
    kind: FileSystemKind,
    mount_point: Option<&str>,
    label: Option<&str>,
) -> MadeFileSystem {
    MadeFileSystem {
        plan: FileSystemPlan {
            label: label.map(str::to_owned),
            mount_point: mount_point.map(str::to_owned),
            golden: Some(GoldenNames {
                uuid: Some(format!("0000000{number}-0000-4000-8000-000000000000")),
                partuuid: Some(format!("deadbeef-0{number}")),
                label: label.map(str::to_owned),
                devices: vec![
                    format!("/dev/sda{number}"),
                    format!("/dev/disk/by-id/ata-GOLD-part{number}"),
                    format!(r"/dev/disk/by-partlabel/Linux\x20part\x20{number}"),
                ],
                kind: Some(kind.name().to_owned()),
            }),
            ..FileSystemPlan::new(kind)
        },
        device: format!("/dev/vda{number}").into(),
        on: MadeOn::Partition(number),
        uuid: uuid.to_owned(),
        partuuid: format!("cafe0000-0{number}"),
    }
}

#[test]
fn words_name_file_systems() {
    let made = made();
    let names = Names::new(&made);
    let of = |word| match names.resolve(word) {
        Named::Made(fs) if fs.uuid == ROOT => "root",
        Named::Made(_) => "swap",
        Named::Kept => "kept",
        Named::Missing => "missing",
        Named::Other => "other",
    };
    for (word, expected) in [
        ("UUID=00000001-0000-4000-8000-000000000000", "root"),
        ("UUID=\"00000002-0000-4000-8000-000000000000\"", "swap"),
        ("PARTUUID=DEADBEEF-01", "root"),
        ("/dev/sda2", "swap"),
        ("/dev/sda21", "missing"),
        ("/dev/disk/by-uuid/00000002-0000-4000-8000-000000000000", "swap"),
        ("/dev/disk/by-partuuid/deadbeef-01", "root"),
        ("/dev/disk/by-label/system", "kept"),
        ("ID=ata-GOLD-part1", "root"),
        ("LABEL=system", "kept"),
        ("LABEL=data", "missing"),
        ("PARTLABEL=Linux part 2", "swap"),
        (r"PARTLABEL=Linux\x20part\x202", "swap"),
        (r"/dev/disk/by-partlabel/Linux\x20part\x201", "root"),
        (r"/dev/disk/by-partlabel/Linux\\x20part\\x201", "root"),
        ("PARTLABEL=Linux part 3", "missing"),
        ("UUID=ABCD-1234", "missing"),
        ("/dev/mapper/vg-home", "missing"),
        ("/dev/sdb1", "missing"),
        ("/dev/fd0", "other"),
        ("/dev/sr0", "other"),
        ("/dev/cdrom", "other"),
        ("/dev/shm", "other"),
        ("/dev/zram0", "other"),
        ("tmpfs", "other"),
        ("/swapfile", "other"),
        ("server:/export", "other"),
        ("//server/share=x", "other"),
    ] {
        assert_eq!(of(word), expected, "{word}");
    }
}

#[test]
fn units_are_named_after_this_nodes_devices() {
    let made = made();
    let names = Names::new(&made);
    let uuid = |uuid: &str| uuid.replace('-', r"\x2d");
    let (swap, golden) = (uuid(SWAP), uuid("00000002-0000-4000-8000-000000000000"));
    for (old, new) in [
        ("dev-sda2.swap".to_owned(), Some(format!(r"dev-disk-by\x2duuid-{swap}.swap"))),
        (
            format!(r"dev-disk-by\x2duuid-{golden}.device"),
            Some(format!(r"dev-disk-by\x2duuid-{swap}.device")),
        ),
        (
            r"dev-disk-by\x2dpartuuid-deadbeef\x2d02.swap".to_owned(),
            Some(r"dev-disk-by\x2dpartuuid-cafe0000\x2d02.swap".to_owned()),
        ),
        (
            r"systemd-fsck@dev-disk-by\x2dpartlabel-Linux\x5cx20part\x5cx202.service".to_owned(),
            Some(format!(r"systemd-fsck@dev-disk-by\x2duuid-{swap}.service")),
        ),
        ("dev-sdz1.swap".to_owned(), None),
        ("dev-hugepages.mount".to_owned(), None),
        ("ssh.service".to_owned(), None),
    ] {
        assert_eq!(names.rename_unit(&old), new, "{old}");
    }
    assert_eq!(names.unit("dev-sdz1.device"), Named::Missing);
    assert_eq!(names.unit("dev-hugepages.mount"), Named::Other);
}

#[test]
fn golden_disks_are_known_by_their_partitions() {
    let made = made();
    let names = Names::new(&made);
    assert!(names.is_golden_disk("/dev/sda") && names.is_golden_disk("/dev/disk/by-id/ata-GOLD"));
    assert!(!names.is_golden_disk("/dev/sdb") && !names.is_golden_disk("/dev/sda1"));
    for (partition, disk) in [
        ("/dev/sda12", Some("/dev/sda")),
        ("/dev/nvme0n1p2", Some("/dev/nvme0n1")),
        ("/dev/mmcblk0p1", Some("/dev/mmcblk0")),
        ("/dev/disk/by-path/pci-0000:00:1f.2-ata-1-part3", Some("/dev/disk/by-path/pci-0000:00:1f.2-ata-1")),
        ("/dev/disk/by-label/backup2", None),
        ("/dev/mapper/root", None),
    ] {
        assert_eq!(disk_of(partition), disk, "{partition}");
    }
}

#[test]
fn uuids_are_renamed_as_words_only() {
    let made = made();
    let names = Names::new(&made);
    let golden = "00000001-0000-4000-8000-000000000000";
    assert_eq!(
        names.rename_uuids(&format!("a{golden} {golden},{golden}-x")),
        format!("a{golden} {ROOT},{golden}-x")
    );
    assert_eq!(names.rename_uuids("root=PARTUUID=deadbeef-01"), "root=PARTUUID=cafe0000-01");
    assert_eq!(names.golden_in(&format!("x='{golden}'")), Some(golden));
    assert_eq!(names.golden_in(ROOT), None);
    assert_eq!(names.rename_uuids("root=PARTUUID=DEADBEEF-01,é"), "root=PARTUUID=cafe0000-01,é");
    assert_eq!(names.golden_in("PARTUUID=DeadBeef-02"), Some("deadbeef-02"));
}

/// A root in a volume group, whose golden UUID is `0…`.
pub(in crate::finish) fn made_on_lvm() -> Vec<MadeFileSystem> {
    let mut root = fs(1, ROOT, FileSystemKind::Ext4, Some("/"), Some("system"));
    root.on = MadeOn::LogicalVolume { group: "my-vg".into(), name: "root".into(), disks: Vec::new() };
    root.device = "/dev/mapper/my--vg-root".into();
    root.partuuid = String::new();
    if let Some(golden) = &mut root.plan.golden {
        golden.partuuid = None;
        golden.devices =
            ["/dev/mapper/my--vg-root", "/dev/my-vg/root", "/dev/dm-0"].map(str::to_owned).to_vec();
    }
    vec![root]
}

#[test]
fn a_logical_volume_keeps_its_names_and_no_others() {
    let made = made_on_lvm();
    let names = Names::new(&made);
    for kept in ["/dev/mapper/my--vg-root", "/dev/my-vg/root"] {
        assert_eq!(names.resolve(kept), Named::Kept, "{kept}");
    }
    for renamed in ["UUID=00000001-0000-4000-8000-000000000000", "/dev/dm-0"] {
        assert!(matches!(names.resolve(renamed), Named::Made(_)), "{renamed}");
    }
    for missing in ["/dev/mapper/my--vg-home", "/dev/my-vg/home", "/dev/mapper/my-vg-root"] {
        assert_eq!(names.resolve(missing), Named::Missing, "{missing}");
    }
    let unit = r"dev-mapper-my\x2d\x2dvg\x2droot.device";
    assert_eq!(names.rename_unit(unit), None);
}
