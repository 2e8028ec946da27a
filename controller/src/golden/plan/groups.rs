//! Plans the golden node's volume groups.

use super::disk::{Job, raw_source, told};
use super::{PlanError, Planned};
use crate::golden::scan::lvm::{Fate, GoldenLayout, Logical};
use crate::golden::scan::{GoldenDisk, GoldenGroup, GoldenVolume, Usage, is_same};
use ka::notes::NoteKind;
use ka::plan::{
    Backing, FileSystemKind, GroupId, LogicalLayout, LogicalSize, LogicalVolume, RawPlan, VolumeContent,
    VolumeGroup, VolumeId, VolumeName, is_name,
};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The partitions that are physical volumes of the groups. Each group must lie on them alone, and be intact.
pub(super) fn members(
    groups: &[GoldenGroup],
    disks: &[GoldenDisk],
) -> Result<BTreeMap<PathBuf, GroupId>, PlanError> {
    let mut members = BTreeMap::new();
    for (found, id) in groups.iter().zip((0..).map(GroupId)) {
        let group = &found.group;
        let unsupported = |reason: String| PlanError::Unsupported {
            golden: format!("volume group {}", group.name),
            reason,
        };
        if let Some(fault) = &group.fault {
            return Err(unsupported(fault.clone()));
        }
        if !is_name(&group.name) {
            return Err(unsupported("its name is unknown".to_owned()));
        }
        for member in &group.members {
            let mut partitions = disks.iter().flat_map(|disk| &disk.partitions);
            let partition =
                partitions.find(|partition| is_same(&partition.node, member)).ok_or_else(|| {
                    unsupported(format!(
                        "its physical volume {} is not a partition of a disk that is copied: give that disk \
                     with `-p` too; whole \
                     disks, arrays and encrypted volumes cannot be physical volumes yet",
                        member.display()
                    ))
                })?;
            members.insert(partition.node.clone(), id);
        }
    }
    Ok(members)
}

/// Adds the groups and their logical volumes to the plan.
pub(super) fn plan(job: &Job<'_>, groups: &[GoldenGroup], planned: &mut Planned) -> Result<(), PlanError> {
    for (found, id) in groups.iter().zip((0..).map(GroupId)) {
        let group = &found.group;
        planned.plan.storage.groups.push(VolumeGroup {
            id,
            name: group.name.clone(),
            extent: group.extent,
            golden_extents: group.extents,
        });
        let mut pools: BTreeMap<&str, VolumeId> = BTreeMap::new();
        for (logical, volume) in group.volumes.iter().zip(&found.volumes) {
            if let Some(id) = add(job, (id, &group.name), logical, volume.as_ref(), &pools, planned)? {
                pools.insert(&logical.name, id);
            }
        }
    }
    Ok(())
}

/// Adds one logical volume; returns its id if it is part of the clones.
fn add(
    job: &Job<'_>,
    (group, group_name): (GroupId, &str),
    logical: &Logical,
    volume: Option<&GoldenVolume>,
    pools: &BTreeMap<&str, VolumeId>,
    planned: &mut Planned,
) -> Result<Option<VolumeId>, PlanError> {
    let name = VolumeName::Logical { group: group_name.to_owned(), name: logical.name.clone() };
    let unsupported =
        |reason: &str| PlanError::Unsupported { golden: name.to_string(), reason: reason.to_owned() };
    let (layout, without) = match &logical.fate {
        Fate::Skipped => {
            planned.lose(NoteKind::MountLeftOut, format!("{name} is a snapshot, and is not copied"));
            return Ok(None);
        }
        Fate::Refused(reason) => return Err(unsupported(reason)),
        Fate::Made { layout, without } => (layout, *without),
    };
    if let Some(without) = without {
        planned.lose(NoteKind::Setting, format!("{name} is created without {without}"));
    }
    let layout = match layout {
        GoldenLayout::Of(layout) => layout.clone(),
        GoldenLayout::ThinIn(pool) => LogicalLayout::Thin {
            pool: *pools.get(pool.as_str()).ok_or_else(|| unsupported("its thin pool is not known"))?,
        },
    };
    let content = match (&layout, volume) {
        (LogicalLayout::ThinPool { .. }, _) => VolumeContent::Nothing,
        (_, Some(volume)) => content(job, &name, volume, planned)?,
        (_, None) => {
            return Err(unsupported(
                "it is not active, so its contents are unknown: activate it (`lvchange -ay`)",
            ));
        }
    };
    let mut wanted = job.request.sizes.iter();
    let wanted = wanted.find(|wanted| wanted.group == group_name && wanted.name == logical.name);
    let size = match wanted.map(|wanted| wanted.size.of(logical.size)) {
        Some(LogicalSize::Fixed(size)) => LogicalSize::Fixed(size),
        Some(_) if matches!(layout, LogicalLayout::Thin { .. }) => {
            return Err(PlanError::Size {
                volume: format!("{group_name}/{}", logical.name),
                reason: "a thin volume takes no space of its group: expected a size in bytes, such as 20G"
                    .to_owned(),
            });
        }
        Some(size) => size,
        None => size(&layout, &content, logical.size),
    };
    let backing = LogicalVolume { group, name: logical.name.clone(), size, layout };
    Ok(Some(planned.plan.storage.add(Backing::LogicalVolume(backing), content)))
}

/// File systems scale with the size of the group; everything else keeps its golden size.
fn size(layout: &LogicalLayout, content: &VolumeContent, bytes: u64) -> LogicalSize {
    let is_thin = matches!(layout, LogicalLayout::Thin { .. });
    match content {
        VolumeContent::FileSystem(fs) if fs.kind != FileSystemKind::Swap && !is_thin => {
            LogicalSize::Scaled(bytes)
        }
        _ if matches!(layout, LogicalLayout::ThinPool { .. }) => LogicalSize::Scaled(bytes),
        _ => LogicalSize::Fixed(bytes),
    }
}

/// The contents to create on a logical volume.
fn content(
    job: &Job<'_>,
    name: &VolumeName,
    volume: &GoldenVolume,
    planned: &mut Planned,
) -> Result<VolumeContent, PlanError> {
    if volume.usage != Usage::Unused {
        job.check_usage(volume)?;
    }
    match (volume.file_system(), &volume.contents.kind) {
        (Some(kind), _) => Ok(job.file_system(name, kind, Some(volume), planned)?.into()),
        (None, None) => {
            planned.notes.push(format!("{name} is created without a file system: {}", told(volume)));
            Ok(VolumeContent::Nothing)
        }
        (None, Some(_)) => {
            planned.notes.push(format!("{name} is copied as it is: {}", told(volume)));
            let raw = raw_source(volume);
            let copied = RawPlan { name: raw.name.clone(), size: raw.size, golden: Some(volume.names()) };
            planned.raw.push(raw);
            Ok(copied.into())
        }
    }
}
