//! Volume groups on disks of other sizes: what every logical volume gets, and what is refused before a write.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::disk::description::Description;
use ka::disk::ids::Seed;
use ka::disk::layout::Layout;
use ka::disk::units::{DiskSize, MB, SectorSize};
use ka::plan::allot::{PV_HEAD, allot};
use ka::plan::fit::{FitError, fit};
use ka::plan::{
    Backing, DiskPlan, FileSystemKind, FileSystemPlan, GroupId, LogicalLayout, LogicalSize, LogicalVolume,
    Raid, RaidLevel, Storage, VolumeContent, VolumeGroup, VolumeId,
};
use proptest::prelude::*;

const SEED: Seed = Seed([7; 32]);
const EXTENT: u64 = 4 * MB;
const GROUP: GroupId = GroupId(0);

/// A group on one partition of each of so many disks, beside a boot partition of 256 MB.
fn storage(disks: usize, golden_extents: u64) -> Storage {
    let mut storage = Storage::default();
    for index in 0..disks {
        let name = format!("sd{}", char::from(b'a' + u8::try_from(index).unwrap()));
        let desc = Description::parse("linux 256\ntype8e fill\n", "desc").unwrap();
        let member = VolumeContent::Member { group: GROUP, golden: None };
        storage.push(DiskPlan::new(name.as_str().into(), desc), [(2, member)]);
    }
    storage.groups.push(VolumeGroup { id: GROUP, name: "vg0".into(), extent: EXTENT, golden_extents });
    storage
}

fn add(storage: &mut Storage, name: &str, size: LogicalSize, layout: LogicalLayout, used: u64) -> VolumeId {
    let lv = LogicalVolume { group: GROUP, name: name.into(), size, layout };
    let fs = FileSystemPlan {
        used,
        mount_point: Some(format!("/{name}")),
        ..FileSystemPlan::new(FileSystemKind::Ext4)
    };
    storage.add(Backing::LogicalVolume(lv), fs.into())
}

fn layouts(storage: &Storage, mb: u64) -> Result<Vec<Layout>, FitError> {
    let size = DiskSize::of_bytes(mb * MB, SectorSize::B512);
    (0..storage.disks.len()).map(|index| fit(storage, index, size, &SEED)).collect()
}

/// Sizes in extents by the order of adding, on disks of so many MB.
fn extents(storage: &Storage, mb: u64) -> Result<Vec<u64>, FitError> {
    let [allotment] = allot(storage, &layouts(storage, mb)?)?.try_into().unwrap();
    let mut volumes = allotment.volumes;
    volumes.sort_by_key(|one| one.volume);
    Ok(volumes.iter().map(|one| one.size / EXTENT).collect())
}

/// A group of 700 extents, of which root has 350, home 175, swap 64, and 111 are free.
fn usual() -> Storage {
    let mut usual = storage(1, 700);
    add(&mut usual, "root", LogicalSize::Scaled(350 * EXTENT), LogicalLayout::Linear, 400 * MB);
    add(&mut usual, "home", LogicalSize::Scaled(175 * EXTENT), LogicalLayout::Linear, 10 * MB);
    let lv = LogicalVolume {
        group: GROUP,
        name: "swap".into(),
        size: LogicalSize::Fixed(64 * EXTENT),
        layout: LogicalLayout::Linear,
    };
    let swap = FileSystemPlan::new(FileSystemKind::Swap);
    usual.add(Backing::LogicalVolume(lv), swap.into());
    usual
}

/// A disk on which the group has so many extents.
fn disk_with(extents: u64) -> u64 {
    1 + 256 + (PV_HEAD + extents * EXTENT) / MB
}

#[test]
fn volumes_keep_their_share_of_the_group() {
    let usual = usual();
    assert_eq!(extents(&usual, disk_with(700)).unwrap(), [350, 175, 64], "the same group, the same sizes");
    // Without the swap, 1336 extents stand for 636.
    assert_eq!(extents(&usual, disk_with(1400)).unwrap(), [735, 367, 64]);
    assert_eq!(extents(&usual, disk_with(382)).unwrap(), [175, 87, 64]);
    // Root needs 112 extents for its files: the other gives.
    let small = extents(&usual, disk_with(190)).unwrap();
    assert!(small[0] > 105 && small[0] + small[1] <= 126 && small[2] == 64, "{small:?}");
    let error = extents(&usual, disk_with(160)).unwrap_err();
    assert!(matches!(error, FitError::GroupTooSmall { .. }), "{error}");
}

#[test]
fn fixed_sizes_shares_and_fill() {
    let mut three = storage(1, 700);
    add(&mut three, "a", LogicalSize::Fixed(10 * EXTENT + 1), LogicalLayout::Linear, 0);
    add(&mut three, "b", LogicalSize::Share(25), LogicalLayout::Linear, 0);
    add(&mut three, "c", LogicalSize::Fill(1), LogicalLayout::Linear, 0);
    add(&mut three, "d", LogicalSize::Fill(3), LogicalLayout::Linear, 0);
    assert_eq!(extents(&three, disk_with(400)).unwrap(), [11, 100, 72, 216]);
}

#[test]
fn every_image_has_a_physical_volume_of_its_own() {
    let mirror = || {
        let raid = Raid { level: RaidLevel::Raid1, data: 1, redundant: 1, stripe_size: 0 };
        LogicalLayout::Raid(raid)
    };
    let with = |disks| {
        let mut storage = storage(disks, 200);
        add(&mut storage, "safe", LogicalSize::Fixed(50 * EXTENT), mirror(), 0);
        add(&mut storage, "rest", LogicalSize::Fill(1), LogicalLayout::Linear, 0);
        storage
    };
    let error = extents(&with(1), disk_with(200)).unwrap_err().to_string();
    assert!(error.starts_with("logical volume vg0/safe lies on 2 physical volumes, and 1 of"), "{error}");
    // Two disks with 100 extents each; each image has one more.
    let two = with(2);
    assert_eq!(extents(&two, disk_with(100)).unwrap(), [50, 98]);
    let [allotment] = allot(&two, &layouts(&two, disk_with(100)).unwrap()).unwrap().try_into().unwrap();
    assert_eq!(allotment.volumes[0].members.len(), 2, "the mirror is made first, on both");
}

#[test]
fn what_is_copied_goes_into_its_thin_pool() {
    let with = |used| {
        let mut storage = storage(1, 300);
        let pool = LogicalVolume {
            group: GROUP,
            name: "pool".into(),
            size: LogicalSize::Scaled(100 * EXTENT),
            layout: LogicalLayout::ThinPool { metadata: EXTENT, chunk: 65_536 },
        };
        let pool = storage.add(Backing::LogicalVolume(pool), VolumeContent::Nothing);
        let thin = LogicalLayout::Thin { pool };
        add(&mut storage, "a", LogicalSize::Fixed(500 * EXTENT), thin.clone(), used);
        add(&mut storage, "b", LogicalSize::Fixed(500 * EXTENT), thin, used);
        storage
    };
    // More than the group has altogether: that is what thin means.
    assert_eq!(extents(&with(100 * MB), disk_with(300)).unwrap(), [100, 500, 500]);
    let error = extents(&with(300 * MB), disk_with(300)).unwrap_err().to_string();
    assert!(error.starts_with("logical volume vg0/pool has "), "{error}");
}

#[test]
fn what_cannot_be_is_refused_with_the_figures() {
    let mut full = storage(2, 100);
    add(&mut full, "root", LogicalSize::Fixed(300 * EXTENT), LogicalLayout::Linear, 0);
    let error = extents(&full, disk_with(100)).unwrap_err().to_string();
    assert_eq!(error, "the volume group vg0 has 800 MB, and its volumes need 1200 MB");
    let mut lonely = storage(1, 100);
    lonely.volumes.clear();
    assert!(extents(&lonely, 600).unwrap_err().to_string().contains("no physical volume"));
    let mut swap = storage(1, 100);
    swap.disks[0].desc = Description::parse("linux 256\nswap fill\n", "desc").unwrap();
    assert!(matches!(extents(&swap, 600), Err(FitError::MemberKind { number: 2, .. })));
}

proptest! {
    /// Whatever is asked for: no volume is smaller than its contents need, and no group gives more than it
    /// has.
    #[test]
    fn groups_give_what_they_have(
        golden in prop::collection::vec((1..400_u64, 0..300_u64, 0..4_u8), 1..6),
        mb in 300..6000_u64,
        disks in 1..3_usize,
    ) {
        let mut storage = storage(disks, 1000);
        for (index, (size, used, kind)) in golden.iter().enumerate() {
            let size = match kind {
                0 => LogicalSize::Fixed(size * EXTENT),
                1 => LogicalSize::Scaled(size * EXTENT),
                2 => LogicalSize::Share(10),
                _ => LogicalSize::Fill(u32::try_from(*size).unwrap()),
            };
            add(&mut storage, &format!("v{index}"), size, LogicalLayout::Linear, used * MB);
        }
        if let Ok(layouts) = layouts(&storage, mb)
            && let Ok(allotments) = allot(&storage, &layouts)
        {
            let have: u64 = allotments[0].members.iter().map(|(_, extents)| extents).sum();
            let taken: u64 = allotments[0].volumes.iter().map(|one| one.extents).sum();
            prop_assert!(taken <= have, "{taken} of {have}");
            for one in &allotments[0].volumes {
                let used = storage.volume(one.volume).unwrap().file_system().unwrap().used;
                prop_assert!(one.size >= used && one.extents > 0);
            }
        }
    }
}
