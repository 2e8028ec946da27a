//! Assigns contents to the partitions of one disk.

use super::{Chosen, PlanError, Planned, RawSource, Request, exclude};
use crate::golden::scan::{Files, GoldenDisk, GoldenSubvolume, GoldenVolume, TOP, Usage};
use ka::disk::choice::DiskChoice;
use ka::disk::description::{Description, Entry, Role};
use ka::disk::ids::Seed;
use ka::disk::kind::{PartitionKind, TableKind};
use ka::disk::table::Finding;
use ka::disk::units::{DiskSize, InMb, SectorSize};
use ka::notes::NoteKind;
use ka::plan::fit::{FitError, fit};
use ka::plan::room;
use ka::plan::{
    DiskPlan, FileSystemKind, FileSystemPlan, GroupId, RawPlan, Shape, Storage, Subvolume, VolumeContent,
    VolumeName,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The label for a partition that only the description has.
const NOT_GOLDEN: &str = "this machine has no such partition";

/// One disk to plan for.
pub(super) struct Job<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) golden: &'a GoldenDisk,
    /// The description's name in messages.
    pub(super) file: &'a str,
    /// Partitions that are copied byte by byte.
    pub(super) raw: &'a BTreeSet<PathBuf>,
    /// The physical volumes of the groups that are copied.
    pub(super) groups: &'a BTreeMap<PathBuf, GroupId>,
}

/// Assigns contents to the partitions of a disk; the sources to read and the notes are added to `planned`.
/// Examines the machine only for the contents of directories.
pub(super) fn plan(
    job: &Job<'_>,
    choice: DiskChoice,
    mut desc: Description,
    planned: &mut Planned,
) -> Result<Storage, PlanError> {
    let name = &job.golden.name;
    if choice.name().is_some_and(|wanted| wanted != name) {
        planned.notes.push(format!("this machine has no {choice}: its disk {name} is copied"));
    }
    for partition in &job.golden.partitions {
        job.check(partition, &desc)?;
        if partition.number().is_none_or(|number| desc.entry(number).is_none()) {
            let note = format!("the clones have no {}: {}", partition.name, told(partition));
            planned.notes.push(note);
        }
    }
    desc.assume_sector(job.golden.size.sector);
    let mut plan = DiskPlan::new(choice, desc);
    plan.scale_from = job.request.scale.then(|| job.golden.size.bytes());
    plan.keep_ids = job.request.keep_uuids;
    plan.protective_active =
        job.golden.table.as_ref().is_ok_and(|table| table.findings.contains(&Finding::ProtectiveActive));
    let mut volumes: Vec<(u32, VolumeContent)> = Vec::new();
    for entry in plan.desc.entries().iter().filter(|entry| entry.role != Role::Extended) {
        let partition = job.golden.partition(entry.number);
        let name = VolumeName::Partition(entry.number);
        match job.one(entry, partition)? {
            Contents::Files(kind) => {
                volumes.push((entry.number, job.file_system(&name, kind, partition, planned)?.into()));
            }
            Contents::Raw(partition) => {
                let raw = raw_source(partition);
                let golden = Some(partition.names());
                let copied = RawPlan { name: raw.name.clone(), size: raw.size, golden };
                volumes.push((entry.number, copied.into()));
                if !job.raw.contains(&partition.node) {
                    let note = format!("{name} is copied as it is: {}", told(partition));
                    planned.notes.push(note);
                }
                planned.raw.push(raw);
            }
            Contents::Member(group, partition) => {
                let golden = Some(partition.names());
                volumes.push((entry.number, VolumeContent::Member { group, golden }));
            }
            Contents::Nothing => {
                let what = partition.map_or_else(|| NOT_GOLDEN.to_owned(), told);
                let note = format!("{name} is created without a file system: {what}");
                planned.notes.push(note);
            }
        }
    }
    let storage = Storage::of(plan, volumes);
    check_fixed_sizes(&storage, job.file)?;
    note_places(&storage, job, planned);
    Ok(storage)
}

/// The contents of a partition.
enum Contents<'a> {
    /// A file system, with or without files, or swap.
    Files(FileSystemKind),
    /// The bytes of a golden partition.
    Raw(&'a GoldenVolume),
    /// It is a physical volume of a group.
    Member(GroupId, &'a GoldenVolume),
    /// Nothing.
    Nothing,
}

impl Job<'_> {
    fn is_raw(&self, partition: &GoldenVolume) -> bool {
        self.raw.contains(&partition.node)
    }

    /// Every golden partition that is in use, or that the operator named, must be copyable and have a place.
    fn check(&self, partition: &GoldenVolume, desc: &Description) -> Result<(), PlanError> {
        if !self.is_raw(partition) && partition.usage == Usage::Unused {
            return Ok(());
        }
        self.check_usage(partition)?;
        let number = partition.number().unwrap_or_default();
        match desc.entry(number).filter(|entry| entry.role != Role::Extended) {
            Some(_) => Ok(()),
            None => {
                let (file, golden) = (self.file.to_owned(), told(partition));
                Err(PlanError::Missing { file, number, golden })
            }
        }
    }

    /// It can be copied regardless of its users.
    pub(super) fn check_usage(&self, partition: &GoldenVolume) -> Result<(), PlanError> {
        let unsupported =
            |reason: &str| Err(PlanError::Unsupported { golden: told(partition), reason: reason.to_owned() });
        match &partition.usage {
            _ if self.is_raw(partition) => {}
            Usage::Held { .. } if self.groups.contains_key(&partition.node) => {}
            Usage::Held { .. } => {
                return unsupported(
                    "LVM, RAID and LUKS that are in use cannot be copied yet: stop what uses it, and the partition is \
                     copied as it is; or leave the disk out",
                );
            }
            Usage::Exclusive => {
                return unsupported("an unknown program has it open exclusively, ZFS for instance");
            }
            Usage::Mounted { .. } if partition.file_system().is_none() => {
                return unsupported(
                    "files are copied from ext2, ext3, ext4, xfs, jfs, reiserfs, btrfs and vfat only: unmount it, and \
                     the partition is copied as it is",
                );
            }
            Usage::Mounted { .. } if partition.made.pool.is_some_and(|pool| pool.devices > 1) => {
                return unsupported("a btrfs of several devices cannot be copied yet");
            }
            Usage::Unused | Usage::Mounted { .. } | Usage::Swap => {}
        }
        Ok(())
    }

    /// Assigns contents to one partition of the description.
    fn one<'p>(&self, entry: &Entry, partition: Option<&'p GoldenVolume>) -> Result<Contents<'p>, PlanError> {
        let Some(partition) = partition.filter(|p| p.contents.kind.is_some() || self.is_raw(p)) else {
            return Ok(match entry.kind {
                kind if kind.is_swap() => Contents::Files(FileSystemKind::Swap),
                kind if kind.is_esp() => Contents::Files(FileSystemKind::Vfat),
                kind if kind.is_linux_files() => Contents::Files(FileSystemKind::Ext4),
                _ => Contents::Nothing,
            });
        };
        let wrong = |expected: &str| {
            let reason = format!(
                "expected {expected} for partition {}, found `{}`: {}",
                entry.number,
                word(entry.kind),
                told(partition)
            );
            Err(PlanError::Line { file: self.file.to_owned(), line: entry.line, reason })
        };
        match (self.is_raw(partition), partition.file_system()) {
            (false, Some(FileSystemKind::Swap)) if !entry.kind.is_swap() => wrong("`swap`"),
            (false, Some(FileSystemKind::Swap)) => Ok(Contents::Files(FileSystemKind::Swap)),
            (false, Some(_)) if entry.kind.is_swap() => wrong("a type for files, such as `linux`"),
            (false, Some(kind)) => Ok(Contents::Files(kind)),
            (true, _) => Ok(Contents::Raw(partition)),
            (false, None) => match self.groups.get(&partition.node) {
                Some(_) if entry.kind.is_swap() => {
                    wrong("a type for a physical volume of LVM, such as `type8e`")
                }
                Some(group) => Ok(Contents::Member(*group, partition)),
                None => Ok(Contents::Raw(partition)),
            },
        }
    }

    pub(super) fn file_system(
        &self,
        name: &VolumeName,
        kind: FileSystemKind,
        partition: Option<&GoldenVolume>,
        planned: &mut Planned,
    ) -> Result<FileSystemPlan, PlanError> {
        let mut fs = FileSystemPlan::new(kind);
        let Some(partition) = partition else {
            planned.notes.push(format!("{name} is created empty: {NOT_GOLDEN}"));
            return Ok(fs);
        };
        fs.golden = Some(partition.names());
        if partition.file_system() == Some(kind) {
            fs.label = label(kind, partition, planned);
            fs.shape = partition.made.shape.clone();
            if let Some(note) = not_kept(partition) {
                planned.lose(NoteKind::Setting, note);
            }
            fs.uuid = partition.contents.uuid.clone().filter(|_| self.request.keep_uuids);
        }
        match &partition.usage {
            Usage::Mounted { at, device, used, inodes, compress, .. } => {
                let whole = GoldenSubvolume {
                    path: String::new(),
                    mount_point: Some(at.clone()),
                    files: Some(Files { mounted_at: at.clone(), below: PathBuf::new(), device: *device }),
                    snapshot: false,
                    default: true,
                    id: TOP,
                };
                let copied = match partition.subvolumes.as_slice() {
                    [] | [_] => {
                        fs.mount_point = Some(text(at, partition)?);
                        vec![chosen(at, &whole)].into_iter().flatten().collect()
                    }
                    subvolumes => subvolumes_of(&mut fs, subvolumes, partition, planned)?,
                };
                let left_out: u64 =
                    copied.iter().map(|c| exclude::left_out(&planned.exclude, c.files.device)).sum();
                let is_whole =
                    copied.len() == partition.subvolumes.iter().filter(|s| s.files.is_some()).count();
                let all = partition.subvolumes.len() < 2 || is_whole;
                let trees = can_share(kind, &fs.shape).then(|| {
                    copied.iter().map(|c| exclude::used_in(&c.files.path(), c.files.device)).sum::<u64>()
                });
                fs.compress.clone_from(compress);
                fs.used = needed(*used, trees, left_out, all, compress.is_some());
                fs.inodes = if is_ext(kind) { *inodes } else { 0 };
                planned.sources.extend(copied);
            }
            _ if kind != FileSystemKind::Swap => {
                planned.notes.push(format!("{name} is created empty: {}", told(partition)));
            }
            _ => {}
        }
        Ok(fs)
    }
}

/// Whether files may use less space than their size: their blocks are shared or compressed.
fn can_share(kind: FileSystemKind, shape: &Shape) -> bool {
    match kind {
        FileSystemKind::Btrfs => true,
        FileSystemKind::Xfs => shape.features.iter().flatten().any(|feature| feature == "reflink"),
        _ => false,
    }
}

fn is_ext(kind: FileSystemKind) -> bool {
    matches!(kind, FileSystemKind::Ext2 | FileSystemKind::Ext3 | FileSystemKind::Ext4)
}

/// The space in bytes that the copied files need on the new file system, where nothing is shared. `used` is
/// the space in use on the golden file system, `trees` the size of the files alone if they were counted, and
/// `left_out` the size of the excluded ones.
pub(super) fn needed(used: u64, trees: Option<u64>, left_out: u64, all: bool, compressed: bool) -> u64 {
    match (trees, all, compressed) {
        (None, ..) => used.saturating_sub(left_out),
        // The node compresses as well, and the excluded files were as compressible as the rest. Beyond that,
        // the kernel does not report how much the files share.
        (Some(trees), true, true) => {
            let counted = u128::from(trees.max(used).max(1));
            let share = u128::from(used) * u128::from(left_out) / counted;
            used.saturating_sub(u64::try_from(share).unwrap_or(u64::MAX))
        }
        (Some(trees), false, true) => trees.saturating_sub(left_out).min(used),
        (Some(trees), true, false) => trees.max(used).saturating_sub(left_out),
        // Space that is not copied, such as snapshots, is in use as well.
        (Some(trees), false, false) => trees.saturating_sub(left_out),
    }
}

/// Features that no tool can recreate, or that are not part of a file system's layout.
fn not_kept(partition: &GoldenVolume) -> Option<String> {
    let keeps_quotas = partition.made.shape.features.iter().flatten().any(|feature| feature == "quota");
    (keeps_quotas || partition.made.quotas).then(|| {
        format!(
            "{}: it keeps quotas; usage is counted on the clones, projects are copied, limits are not: set them there \
             (setquota, xfs_quota)",
            partition.node.display()
        )
    })
}

/// The label for the new file system: the golden one's, if the tool accepts it.
fn label(kind: FileSystemKind, partition: &GoldenVolume, planned: &mut Planned) -> Option<String> {
    let label = partition.contents.label.as_ref()?;
    let reason = match kind {
        // blkid reported invalid bytes.
        _ if label.contains(char::REPLACEMENT_CHARACTER) => "it is not UTF-8",
        FileSystemKind::Vfat if !is_label_of_fat(label) => "mkfs.vfat does not accept it",
        _ => return Some(label.clone()),
    };
    let note = format!("{} gets no label `{}`: {reason}", partition.name, label.escape_debug());
    planned.lose(NoteKind::Setting, note);
    None
}

/// The labels that mkfs.vfat(8) accepts: it rejects characters that some systems cannot read, and those that
/// the C locale lacks.
fn is_label_of_fat(label: &str) -> bool {
    let is_refused = |b: u8| !(0x20..0x80).contains(&b) || b"*?.,;:/\\|+=<>[]\"".contains(&b);
    label.len() <= 11 && !label.starts_with(' ') && !label.bytes().any(is_refused)
}

/// Plans the subvolumes of a btrfs; returns those with files to copy.
fn subvolumes_of(
    fs: &mut FileSystemPlan,
    all: &[GoldenSubvolume],
    partition: &GoldenVolume,
    planned: &mut Planned,
) -> Result<Vec<Chosen>, PlanError> {
    let mut copied = Vec::new();
    let mut snapshots = Vec::new();
    for subvolume in all {
        let mounted = subvolume.mount_point.as_deref();
        let is_top = subvolume.path.is_empty();
        if mounted.is_none() && (subvolume.snapshot || is_top) {
            snapshots.extend((!is_top).then_some(subvolume.path.as_str()));
            continue;
        }
        fs.subvolumes.push(Subvolume {
            path: subvolume.path.clone(),
            mount_point: mounted.map(|at| text(at, partition)).transpose()?,
            default: subvolume.default && !is_top,
            golden_id: Some(subvolume.id),
        });
        match &subvolume.files {
            Some(files) => copied.extend(chosen(&files.path(), subvolume)),
            None => planned.lose(
                NoteKind::MountLeftOut,
                format!(
                    "{}: subvolume {} is created empty: neither it nor a subvolume that contains it is \
                     mounted",
                    partition.node.display(),
                    subvolume.path
                ),
            ),
        }
    }
    if !snapshots.is_empty() {
        let note = format!(
            "{}: {} snapshots are not copied: {}",
            partition.node.display(),
            snapshots.len(),
            snapshots.join(", ")
        );
        planned.lose(NoteKind::MountLeftOut, note);
    }
    Ok(copied)
}

fn chosen(at: &Path, subvolume: &GoldenSubvolume) -> Option<Chosen> {
    Some(Chosen { mount_point: at.to_owned(), files: subvolume.files.clone()? })
}

fn text(at: &Path, partition: &GoldenVolume) -> Result<String, PlanError> {
    at.to_str().map(str::to_owned).ok_or_else(|| PlanError::MountPoint(told(partition)))
}

pub(super) fn raw_source(partition: &GoldenVolume) -> RawSource {
    RawSource {
        name: partition.node.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        device: partition.node.clone(),
        size: partition.size,
        kind: partition.contents.kind.clone(),
    }
}

/// Checks the sizes against the largest disk that the table can describe, so that only fixed sizes can fail.
/// For a GPT that is 1 EiB: no such disk exists yet.
fn check_fixed_sizes(storage: &Storage, file: &str) -> Result<(), PlanError> {
    let Some(plan) = storage.disks.first() else { return Ok(()) };
    let largest = match plan.desc.table() {
        TableKind::Mbr => 16 << 40,
        TableKind::Gpt => 1 << 60,
    };
    let largest = DiskSize::of_bytes(largest, SectorSize::B4096);
    let mut unscaled = storage.clone();
    unscaled.disks.iter_mut().for_each(|plan| plan.scale_from = None);
    let line = |number, reason| PlanError::Line {
        file: file.to_owned(),
        line: plan.desc.entry(number).map_or(1, |entry| entry.line),
        reason,
    };
    fit(&unscaled, 0, largest, &Seed([0; 32])).map(drop).map_err(|reason| match &reason {
        FitError::TooSmall { volume: VolumeName::Partition(number), size, used, .. } => line(
            *number,
            format!(
                "partition {number} has {}, too small for the {} that the golden one uses",
                InMb(*size),
                InMb(*used)
            ),
        ),
        FitError::RawTooSmall { volume: VolumeName::Partition(number), .. }
        | FitError::TooSmallToMake { volume: VolumeName::Partition(number), .. }
        | FitError::TooFewInodes { volume: VolumeName::Partition(number), .. } => {
            line(*number, reason.to_string())
        }
        _ => PlanError::Fit { file: file.to_owned(), reason },
    })
}

/// Notes the differences from the description that are certain if the nodes' disks are like the golden one.
fn note_places(storage: &Storage, job: &Job<'_>, planned: &mut Planned) {
    let Some(plan) = storage.disks.first() else { return };
    if plan.scale_from.is_none()
        && let Ok(layout) = fit(storage, 0, job.golden.size, &Seed([0; 32]))
    {
        let departures = layout.departures(&plan.desc).into_iter();
        planned.notes.extend(departures.map(|departure| format!("{}: {departure}", job.file)));
        let sector = layout.disk.sector;
        for (number, volume) in storage.partitions(0) {
            let is_left_to_the_tool = |fs: &FileSystemPlan| fs.shape.fat_bits.is_none();
            let placed = layout.partition(number).filter(|placed| placed.kind.is_esp());
            let (Some(placed), true) = (placed, volume.file_system().is_some_and(is_left_to_the_tool)) else {
                continue;
            };
            let size = placed.size.bytes(sector);
            if !room::holds_fat32(size, sector) {
                planned.notes.push(format!(
                    "partition {number} has {}, too small for FAT32, which takes {} with sectors of {} bytes: firmware may \
                     not read it",
                    InMb(size),
                    InMb(room::least_fat32(sector)),
                    sector.bytes()
                ));
            }
        }
    }
}

/// A type as written in a description.
fn word(kind: PartitionKind) -> String {
    match kind {
        kind if kind.is_linux() => "linux".to_owned(),
        kind if kind.is_swap() => "swap".to_owned(),
        kind => kind.name().map_or_else(|| format!("type{kind}"), str::to_owned),
    }
}

/// A golden partition as named for the operator.
pub(super) fn told(partition: &GoldenVolume) -> String {
    let node = partition.node.display();
    let kind = partition.contents.kind.as_deref().unwrap_or("without a file system");
    match &partition.usage {
        Usage::Unused => format!("{node} is {kind}, not in use"),
        Usage::Mounted { at, .. } => format!("{node} is {kind}, mounted at {}", at.display()),
        Usage::Swap => format!("{node} is {kind}, in use"),
        Usage::Held { by } => format!("{node} is {kind}, part of {by}"),
        Usage::Exclusive => format!("{node} is {kind}, in use by an unknown program"),
    }
}
