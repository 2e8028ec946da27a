use super::*;
use crate::disk::description::Description;
use crate::inventory::Content;
use crate::plan::{
    FileSystemKind, FileSystemPlan, GroupId, LogicalLayout, LogicalSize, LogicalVolume, RawPlan,
};

const MIB: u64 = 1 << 20;

fn disk(name: &str) -> Disk {
    Disk {
        name: name.to_owned(),
        size: 1024 * MIB,
        sector_size: 512,
        bus: "ata".to_owned(),
        model: "KA\u{1b}[2J".to_owned(),
        table: Some("gpt".to_owned()),
        contents: vec![
            Content {
                device: format!("{name}1"),
                size: 512 * MIB,
                kind: Some("xfs".into()),
                label: Some("old".into()),
            },
            Content { device: format!("{name}2"), size: MIB, ..Content::default() },
        ],
        ..Disk::default()
    }
}

fn plan(choice: &str) -> Storage {
    let disk = DiskPlan::new(
        choice.parse().unwrap(),
        Description::parse("linux fill\ntype7 64\ntype8e 8\n", "d").unwrap(),
    );
    let root = FileSystemPlan {
        label: Some("root".into()),
        mount_point: Some("/".into()),
        used: 100 * MIB,
        ..FileSystemPlan::new(FileSystemKind::Ext4)
    };
    let raw = RawPlan { name: "sda3".into(), size: 60 * MIB, golden: None };
    Storage::of(disk, [(1, VolumeContent::from(root)), (2, raw.into())])
}

#[test]
fn a_report_says_what_goes_and_what_comes() {
    let report = Report::new(&plan("sda"), &[disk("sda")]);
    assert!(report.is_accepted());
    assert_eq!(
        report.to_string(),
        "sda: 1.1 GB, ata, KA?[2J, sectors of 512 bytes, partition table gpt\n    \
         sda1  536.9 MB  xfs  \"old\"\n    \
         sda2    1.0 MB  nothing known\n  \
         ALL OF THIS WILL BE ERASED. In its place:\n    \
         partition table dos\n    \
         sda1  997.2 MB at   1.0 MB  type Linux  ext4  \"root\"  /  gets 104.9 MB\n    \
         sda2   67.1 MB at 998.2 MB  type HPFS/NTFS/exFAT  the bytes of sda3 (62.9 MB)\n    \
         sda3    8.4 MB at   1.1 GB  type Linux LVM  nothing is made on it\n"
    );
}

#[test]
fn volume_groups_are_shown_with_what_is_made_in_them() {
    let member = |group| VolumeContent::Member { group: GroupId(group), golden: None };
    let desc = Description::parse("linux 100\ntype8e fill\n", "d").unwrap();
    let mut storage = Storage::of(DiskPlan::new("sda".into(), desc), [(2, member(0))]);
    storage.groups.push(VolumeGroup {
        id: GroupId(0),
        name: "vg0".into(),
        extent: 4 * MIB,
        golden_extents: 200,
    });
    let lv = LogicalVolume {
        group: GroupId(0),
        name: "root".into(),
        size: LogicalSize::Fill(1),
        layout: LogicalLayout::Linear,
    };
    let root = FileSystemPlan { mount_point: Some("/".into()), ..FileSystemPlan::new(FileSystemKind::Xfs) };
    storage.add(Backing::LogicalVolume(lv), root.into());
    let text = Report::new(&storage, &[disk("sda")]).to_string();
    let end = "sda2  967.8 MB at 105.9 MB  type Linux LVM  part of the volume group vg0\n\
        volume group vg0: 964.7 MB, on sda2\n    \
        root  964.7 MB  linear  xfs  /\n";
    assert!(text.ends_with(end), "{text}");
    // Too small for the group's contents.
    storage.file_systems_mut().for_each(|fs| fs.used = 2000 * MIB);
    let report = Report::new(&storage, &[disk("sda")]);
    assert!(!report.is_accepted() && report.groups.is_empty());
}

/// Its partitions are not reported, but exist.
#[test]
fn a_damaged_gpt_is_not_nothing() {
    let of = |table: &str| {
        let disk = Disk { table: Some(table.to_owned()), contents: Vec::new(), ..disk("sda") };
        Report::new(&plan("sda"), &[disk]).to_string()
    };
    assert!(of("gpt").contains("\n    nothing found on it\n"), "{}", of("gpt"));
    assert!(
        of("PMBR").contains("\n    a GPT that cannot be read: there may be partitions on it\n"),
        "{}",
        of("PMBR")
    );
}

#[test]
fn one_refused_disk_spares_the_others() {
    let disks = [disk("sda"), Disk { in_use: true, ..disk("sdb") }, Disk { size: 2 * MIB, ..disk("sdc") }];
    let refused = |choices: &[&str]| -> Vec<String> {
        let mut plans = Storage::default();
        for (i, choice) in choices.iter().enumerate() {
            let mut one = plan(choice);
            // A mount point is used once.
            one.file_systems_mut().for_each(|fs| fs.mount_point = Some(format!("/{i}")));
            let contents = one.volumes.into_iter().zip(1..).map(|(volume, number)| (number, volume.content));
            plans.push(one.disks.remove(0), contents);
        }
        let report = Report::new(&plans, &disks);
        assert!(!report.is_accepted());
        for disk in &report.disks {
            let DiskAction::Refuse(reason) = &disk.outcome else { continue };
            let spared =
                disk.because_of.as_ref().map(|other| format!("nothing is written, as {other} is refused"));
            assert_eq!(spared.is_some(), reason.starts_with("nothing is written"));
            assert!(spared.is_none_or(|text| text == *reason));
        }
        report
            .disks
            .iter()
            .map(|disk| match &disk.outcome {
                DiskAction::Refuse(reason) => reason.clone(),
                DiskAction::Erase(_) => "erased".to_owned(),
            })
            .collect()
    };
    let reasons = refused(&["sda", "sdb"]);
    assert!(reasons.iter().all(|reason| reason.contains("in use")), "{reasons:?}");
    let reasons = refused(&["sda", "sdc"]);
    assert_eq!(reasons[0], "nothing is written, as sdc is refused");
    assert!(reasons[1].contains("the disk has 2 MB"), "{reasons:?}");
    assert!(refused(&["sdz"])[0].contains("no such disk; it has sda"));
}

#[test]
fn partitions_are_named_as_the_kernel_does() {
    for (disk, name) in
        [("sda", "sda7"), ("nvme0n1", "nvme0n1p7"), ("mmcblk0", "mmcblk0p7"), ("loop3", "loop3p7")]
    {
        assert_eq!(partition_name(disk, 7), name);
    }
}
