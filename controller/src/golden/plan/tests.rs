//! Plans from golden disks that were made up.

use super::*;
use crate::golden::scan::Table;
use ka::inventory::Firmware;
use ka::plan::Loader;
use ka_agent::disk::blkid::Contents;

const NODE: DeviceNumber = DeviceNumber { major: 254, minor: 1 };

fn partition(number: u32, kind: &str, usage: Usage) -> GoldenPartition {
    let kind = (!kind.is_empty()).then(|| kind.to_owned());
    GoldenPartition {
        number,
        node: format!("/dev/vda{number}").into(),
        size: 1 << 30,
        kind: Some(0x83),
        contents: Contents { kind, uuid: Some(format!("uuid-{number}")), ..Contents::default() },
        links: vec![format!("/dev/disk/by-id/virtio-1-part{number}").into()],
        usage,
    }
}

fn mounted(at: &str, used_mb: u64) -> Usage {
    Usage::Mounted { at: at.into(), device: NODE, used: used_mb << 20 }
}

fn golden(partitions: Vec<GoldenPartition>) -> GoldenDisk {
    let size = DiskSize::of_bytes(10 << 30, SectorSize::B512);
    GoldenDisk { name: "vda".to_owned(), size, table: Table::None, partitions }
}

fn usual() -> GoldenDisk {
    golden(vec![
        partition(1, "ext4", mounted("/boot", 80)),
        partition(2, "swap", Usage::Swap),
        partition(3, "ext4", mounted("/", 400)),
    ])
}

fn request(exclude_dirs: &[PathBuf]) -> Request<'_> {
    Request {
        run: "r1",
        disk: "sda",
        desc: Path::new("desc"),
        exclude_dirs,
        exclude_disks: &[],
        own_dirs: Vec::new(),
        boot: BootPlan {
            initrd_modules: vec!["ata_piix".to_owned()],
            ..BootPlan::new(Loader::Grub, Firmware::Bios)
        },
        after: After::Reboot,
    }
}

fn decide_on(golden: &GoldenDisk, text: &str) -> Result<Planned, PlanError> {
    decide(&request(&[]), golden, Desc::parse(text, "desc").unwrap(), "desc", Vec::new())
}

fn refused(golden: &GoldenDisk, text: &str) -> String {
    decide_on(golden, text).unwrap_err().to_string()
}

#[test]
fn partitions_correspond_by_number() {
    let planned = decide_on(&usual(), "linux 200\nswap 100\nlinux fill\n").unwrap();
    let [disk] = planned.plan.disks.as_slice() else { panic!("{planned:?}") };
    assert_eq!(disk.disk, "sda".into());
    let made: Vec<_> = disk
        .file_systems
        .iter()
        .map(|fs| (fs.partition, fs.kind, fs.mount_point.as_deref(), fs.used >> 20))
        .collect();
    assert_eq!(
        made,
        [
            (1, FileSystemKind::Ext4, Some("/boot"), 80),
            (2, FileSystemKind::Swap, None, 0),
            (3, FileSystemKind::Ext4, Some("/"), 400),
        ]
    );
    let names = disk.file_systems[2].golden.clone().unwrap();
    assert_eq!(names.uuid.as_deref(), Some("uuid-3"));
    assert_eq!(names.devices, ["/dev/vda3", "/dev/disk/by-id/virtio-1-part3"]);
    let sources: Vec<_> = planned.sources.iter().map(|s| s.mount_point.to_str().unwrap()).collect();
    assert_eq!(sources, ["/", "/boot"]);
    assert_eq!(planned.notes, Vec::<String>::new());
}

#[test]
fn what_is_wrong_is_told_by_file_line_and_partition() {
    let table = [
        ("linux 200\nswap 100\n", "desc: expected a partition 3: /dev/vda3 is ext4, mounted at /"),
        (
            "linux 200\n\nlinux 100\nlinux fill\n",
            "desc:3: expected `swap` for partition 2, found `linux`: /dev/vda2 is swap, in use",
        ),
        (
            "linux 200\nswap 100\n# root\nswap fill\n",
            "desc:4: expected a type for files, such as `linux` for partition 3, found `swap`: /dev/vda3 is ext4, mounted at /",
        ),
        (
            "linux 200\nswap 100\nlinux 300\n",
            "desc:3: partition 3 has 300 MB, too small for the 400 MB that the golden one uses",
        ),
        (
            "linux 200\nextended fill\nlogical swap 100\nlogical linux fill\n",
            "desc:2: extended and logical partitions are not supported yet: use at most 4 primaries",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(refused(&usual(), text), expected);
    }
}

#[test]
fn file_systems_that_cannot_be_copied_are_named() {
    let text = "linux 200\nswap 100\nlinux fill\n";
    let mut disk = usual();
    disk.partitions[0] = partition(1, "ext2", mounted("/boot", 80));
    assert_eq!(
        refused(&disk, text),
        "/dev/vda1 is ext2, mounted at /boot: only ext4 and swap partitions can be copied yet"
    );
    disk.partitions[0] = partition(1, "xfs", Usage::Unused);
    assert!(refused(&disk, text).starts_with("/dev/vda1 is xfs, not in use: only ext4"));
    disk.partitions[0] = partition(1, "LVM2_member", Usage::Held { by: "dm-0".to_owned() });
    assert!(refused(&disk, "type8e 200\nswap 100\nlinux fill\n").contains("part of dm-0"));
}

#[test]
fn the_root_file_system_must_be_on_the_disk() {
    let disk = golden(vec![partition(1, "ext4", mounted("/srv", 1))]);
    let text = refused(&disk, "linux fill\n");
    assert!(text.contains("expected it on a partition of vda"), "{text}");
}

#[test]
fn what_is_not_copied_is_noted() {
    let disk = golden(vec![
        partition(1, "ext4", mounted("/", 400)),
        partition(2, "ext4", Usage::Unused),
        partition(3, "ntfs", Usage::Unused),
        partition(4, "vfat", Usage::Unused),
    ]);
    let planned = decide_on(&disk, "linux fill\nlinux 100\ntype7 100\n").unwrap();
    assert_eq!(
        planned.notes,
        [
            "the clones have no partition 4: /dev/vda4 is vfat, not in use",
            "partition 2 is made empty: /dev/vda2 is ext4, not in use",
            "partition 3 is made without a file system: /dev/vda3 is ntfs, not in use",
        ]
    );
    assert_eq!(planned.plan.disks[0].file_systems.len(), 2);
}

#[test]
fn excluded_directories_ask_for_no_room() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("below")).unwrap();
    std::fs::write(dir.path().join("below/file"), vec![1; 1 << 20]).unwrap();
    std::fs::write(dir.path().join("linked"), vec![1; 1 << 20]).unwrap();
    std::fs::hard_link(dir.path().join("linked"), dir.path().join("below/too")).unwrap();
    rustix::fs::sync();
    let device = DeviceNumber::of(std::fs::metadata(dir.path()).unwrap().dev());
    let twice = [dir.path().to_owned(), dir.path().join("below")];
    assert_eq!(left_out(&twice, device), 1 << 20);
    assert_eq!(left_out(&twice, DeviceNumber { major: 0, minor: 0 }), 0);
}

#[test]
fn a_link_to_a_directory_leaves_out_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().canonicalize().unwrap();
    std::fs::create_dir_all(top.join("real/below")).unwrap();
    std::fs::write(top.join("file"), "").unwrap();
    std::os::unix::fs::symlink("real", top.join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", top.join("dangling")).unwrap();
    let excluded_by = |paths: &[&str]| {
        let dirs: Vec<PathBuf> = paths.iter().map(|path| top.join(path)).collect();
        excluded(&request(&dirs))
    };

    assert_eq!(excluded_by(&["link"]).unwrap(), [top.join("real")]);
    assert_eq!(excluded_by(&["link/below/", "real/below/../below"]).unwrap(), [top.join("real/below")]);
    for none in ["dangling", "file", "missing"] {
        assert!(matches!(excluded_by(&[none]), Err(PlanError::NoDirectory(dir)) if dir == top.join(none)));
    }
    let relative = [PathBuf::from(".")];
    assert!(matches!(excluded(&request(&relative)), Err(PlanError::NoDirectory(_))));
    let own = Request { own_dirs: vec![top.join("link/below"), top.join("missing")], ..request(&[]) };
    assert_eq!(excluded(&own).unwrap(), [top.join("missing"), top.join("real/below")]);
}
