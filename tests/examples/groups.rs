//! Makes volume groups on `/dev/vda` as a node does, and reads them back as the golden node does. For a
//! machine of its own with a device mapper: `tests/tests/volume_groups.rs` boots one.
//!
//! Prints a line `GROUPS …` for each thing that was found to be right, and panics at the first that is not.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "it fails as tests do, and its console is its result"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use ka::disk::description::Description;
use ka::plan::{
    Backing, DiskPlan, FileSystemKind, FileSystemPlan, GroupId, LogicalLayout, LogicalSize, LogicalVolume,
    Raid, RaidLevel, Storage, VolumeContent, VolumeGroup,
};
use ka_agent::disk::{confirm_now, prepare};
use kactl::golden::scan::lvm::{self, Fate, GoldenLayout};

const MIB: u64 = 1 << 20;
const EXTENT: u64 = 4 * MIB;
const ROOT: &str = "/tmp/clone";
const DESC: &str = "label: gpt\nsize=64MiB, type=L\nsize=400MiB, type=V\nsize=400MiB, type=V\nsize=400MiB, type=V\n\
    size=400MiB, type=V\nsize=400MiB, type=V\n";

fn main() {
    let storage = storage();
    // Twice: what the first attempt has left must be in nobody's way.
    for attempt in 1..=2 {
        make(&storage);
        println!("GROUPS made and proven, attempt {attempt}");
    }
    activate();
    compare(&storage);
    judge();
    println!("GROUPS snapshots: {}", snapshots());
    other_group();
    println!("GROUPS ALL RIGHT");
}

/// One group of every layout on five partitions, and one on the sixth.
fn storage() -> Storage {
    let boot =
        FileSystemPlan { mount_point: Some("/boot".to_owned()), ..FileSystemPlan::new(FileSystemKind::Ext4) };
    let member = |group| VolumeContent::Member { group: GroupId(group), golden: None };
    let contents =
        [(1, boot.into()), (2, member(0)), (3, member(0)), (4, member(0)), (5, member(0)), (6, member(1))];
    let mut storage =
        Storage::of(DiskPlan::new("vda".into(), Description::parse(DESC, "desc").unwrap()), contents);
    for (id, name) in [(0, "vg-0"), (1, "vg1")] {
        storage.groups.push(VolumeGroup {
            id: GroupId(id),
            name: name.into(),
            extent: EXTENT,
            golden_extents: 396,
        });
    }
    let mut add = |group, name: &str, size, layout, content| {
        let lv = LogicalVolume { group: GroupId(group), name: name.into(), size, layout };
        storage.add(Backing::LogicalVolume(lv), content)
    };
    let at = |point: &str| {
        let fs =
            FileSystemPlan { mount_point: Some(point.into()), ..FileSystemPlan::new(FileSystemKind::Ext4) };
        VolumeContent::from(fs)
    };
    let raid = |level, data, redundant, stripe_size| {
        LogicalLayout::Raid(Raid { level, data, redundant, stripe_size })
    };
    let fixed = |mib: u64| LogicalSize::Fixed(mib * MIB);
    add(0, "root", LogicalSize::Fill(1), LogicalLayout::Linear, at("/"));
    let swap = VolumeContent::from(FileSystemPlan::new(FileSystemKind::Swap));
    add(0, "swap", fixed(32), LogicalLayout::Linear, swap);
    add(0, "fast", fixed(66), LogicalLayout::Striped { stripes: 2, stripe_size: 65_536 }, at("/fast"));
    add(0, "safe", fixed(64), raid(RaidLevel::Raid1, 1, 1, 0), at("/safe"));
    add(0, "five", fixed(64), raid(RaidLevel::Raid5, 2, 1, 65_536), at("/five"));
    add(0, "ten", fixed(64), raid(RaidLevel::Raid10, 2, 2, 65_536), at("/ten"));
    let pool = LogicalLayout::ThinPool { metadata: EXTENT, chunk: 65_536 };
    let pool = add(1, "pool", LogicalSize::Scaled(300 * EXTENT), pool, VolumeContent::Nothing);
    add(1, "thin", fixed(1024), LogicalLayout::Thin { pool }, at("/thin"));
    storage
}

fn make(storage: &Storage) {
    let mut prepared = prepare(&confirm_now(storage).unwrap(), Path::new(ROOT)).unwrap();
    for point in ["", "boot", "fast", "safe", "five", "ten", "thin"] {
        fs::write(Path::new(ROOT).join(point).join("file"), vec![7; 1 << 20]).unwrap();
    }
    prepared.unmount().unwrap();
    prepared.prove().unwrap();
    prepared.activate(None).unwrap();
    drop(prepared);
    let left: Vec<_> = fs::read_dir("/dev/mapper").unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["control"], "the groups are still active");
}

fn activate() {
    tool("lvm", &["vgchange", "-a", "y", "--config", "activation { udev_sync=0 udev_rules=0 monitoring=0 }"]);
}

/// What the golden node's scan makes of it is what was asked for.
fn compare(storage: &Storage) {
    let groups = lvm::groups().unwrap();
    assert_eq!(groups.len(), 2);
    for (plan, found) in storage.groups.iter().zip(&groups) {
        assert_eq!((&found.name, found.extent, &found.fault), (&plan.name, EXTENT, &None));
        assert_eq!(found.members.len(), storage.members(plan.id).count());
        for (volume, lv) in storage.logical_volumes(plan.id) {
            let other = found.volumes.iter().find(|other| other.name == lv.name).unwrap();
            let layout = match &lv.layout {
                LogicalLayout::Thin { .. } => GoldenLayout::ThinIn("pool".to_owned()),
                layout => GoldenLayout::Of(layout.clone()),
            };
            assert_eq!(other.fate, Fate::Made { layout, without: None }, "{}", lv.name);
            if let LogicalSize::Fixed(bytes) = lv.size {
                assert!((bytes..bytes + 2 * EXTENT).contains(&other.size), "{other:?}");
            }
            assert!(volume.file_system().is_none() || other.node.exists(), "{other:?}");
        }
        assert_eq!(found.volumes.len(), storage.logical_volumes(plan.id).count());
    }
    println!("GROUPS read back as they were asked for");
}

/// LVM's and ext4's own tools find nothing wrong.
fn judge() {
    for group in ["vg-0", "vg1"] {
        tool("lvm", &["vgck", group]);
    }
    for volume in ["vg--0-root", "vg--0-fast", "vg--0-safe", "vg--0-five", "vg--0-ten", "vg1-thin"] {
        tool("e2fsck", &["-fn", &format!("/dev/mapper/{volume}")]);
    }
    println!(
        "{}",
        tool(
            "lvm",
            &["lvs", "-a", "-o", "lv_name,segtype,lv_size,stripes,data_stripes,data_percent,devices"]
        )
    );
    println!("GROUPS judged by vgck and e2fsck");
}

/// Snapshots of both kinds are skipped.
fn snapshots() -> String {
    let config = "activation { udev_sync=0 udev_rules=0 monitoring=0 }";
    tool("lvm", &["lvcreate", "--config", config, "-y", "-s", "-n", "thinsnap", "vg1/thin"]);
    // One that is not thin takes room of the group, which its origin gives up.
    tool("lvm", &["lvremove", "--config", config, "-y", "vg-0/root"]);
    tool("lvm", &["lvcreate", "--config", config, "-y", "-s", "-l", "4", "-n", "snap", "vg-0/swap"]);
    let groups = lvm::groups().unwrap();
    let volumes = groups.iter().flat_map(|group| &group.volumes);
    let skipped: Vec<&str> =
        volumes.filter(|volume| volume.fate == Fate::Skipped).map(|volume| volume.name.as_str()).collect();
    assert_eq!(skipped, ["snap", "thinsnap"], "{groups:?}");
    skipped.join(" ")
}

/// A plan for another disk with a group of that name is refused while this one has it.
fn other_group() {
    let image = "/tmp/other.img";
    fs::File::create(image).unwrap().set_len(300 * MIB).unwrap();
    let node = tool("losetup", &["-f", "--show", image]);
    let member = VolumeContent::Member { group: GroupId(0), golden: None };
    let desc = Description::parse("type8e fill\n", "desc").unwrap();
    let mut storage = Storage::of(DiskPlan::new(node.trim().into(), desc), [(1, member)]);
    storage.groups.push(VolumeGroup {
        id: GroupId(0),
        name: "vg1".into(),
        extent: EXTENT,
        golden_extents: 70,
    });
    let refused = prepare(&confirm_now(&storage).unwrap(), Path::new(ROOT)).unwrap_err().to_string();
    assert!(refused.contains("vg1") && refused.contains("/dev/vda6"), "{refused}");
    assert!(refused.ends_with("nothing was written"), "{refused}");
    println!("GROUPS {refused}");
}

fn tool(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name).args(arguments).env("LC_ALL", "C").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
