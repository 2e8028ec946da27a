//! From the golden disk and a description to the plan of a run, or to what is wrong with them.
//!
//! The partitions of the description stand for those of the golden disk with the same numbers. All
//! that can be told is told here, before any node is touched.

use super::scan::{self, GoldenDisk, GoldenPartition, ScanError, Usage};
use ka::disk::desc::{Desc, DescError, Entry, Kind, SWAP};
use ka::disk::fit::{FitError, fit};
use ka::disk::layout::LayoutError;
use ka::disk::units::{DiskSize, InMb, SectorSize};
use ka::plan::{After, BootPlan, DiskPlan, FileSystemKind, FileSystemPlan, FinishPlan, Plan};
use ka_agent::disk::mountinfo::{self, DeviceNumber};
use ka_agent::disk::sysfs;
use std::io;
use std::path::{Path, PathBuf};

/// What is told of a partition that only the description has.
const NOT_GOLDEN: &str = "this machine has no such partition";

/// What a person asks for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The run's name.
    pub run: &'a str,
    /// The disk to erase on the nodes (`-p`): a kernel name. The golden disk has the same name, or else
    /// is the one with the root file system.
    pub disk: &'a str,
    /// The description's file.
    pub desc: &'a Path,
    /// Directories whose contents are left out (`-x`).
    pub exclude_dirs: &'a [PathBuf],
    /// Disks that are left out (`-X`). File systems of other disks than the chosen one never are copied,
    /// so this can only contradict the choice.
    pub exclude_disks: &'a [String],
    /// ka's own working directories on this machine, which are left out too.
    pub own_dirs: Vec<PathBuf>,
    /// The boot loader (`-r`).
    pub boot: BootPlan,
    /// What the nodes do at the end.
    pub after: After,
}

/// A plan, and what to read for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What every node is asked for.
    pub plan: Plan,
    /// The golden file systems to copy, outer ones first.
    pub sources: Vec<Chosen>,
    /// Absolute paths of directories to re-create empty.
    pub exclude: Vec<PathBuf>,
    /// What a person should know before the nodes are erased.
    pub notes: Vec<String>,
}

/// A golden file system to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The number that its files have as their device.
    pub device: DeviceNumber,
}

/// Why there is no plan. No node was touched.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The description's file can't be read.
    #[error("{file}: {source}", file = .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The description has an error.
    #[error(transparent)]
    Desc(#[from] DescError),
    /// The description, or one of its partitions, asks for what can't be.
    #[error("{file}:{line}: {reason}")]
    Line {
        /// The description's file.
        file: String,
        /// The line, from 1.
        line: u32,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// A golden partition that the clones would miss.
    #[error("{file}: expected a partition {number}: {golden}", golden = .golden)]
    Missing {
        /// The description's file.
        file: String,
        /// The partition's number.
        number: u32,
        /// The golden partition, as a person knows it.
        golden: String,
    },
    /// The sizes don't add up.
    #[error("{file}: {reason}")]
    Fit {
        /// The description's file.
        file: String,
        /// What is wrong.
        reason: FitError,
    },
    /// A golden partition that can't be copied.
    #[error("{golden}: only ext4 and swap partitions can be copied yet")]
    Unsupported {
        /// The golden partition, as a person knows it.
        golden: String,
    },
    /// The golden disk can't be looked at.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The root file system is somewhere else.
    #[error("the root file system is on {root}, expected it on a partition of {disk}")]
    Root {
        /// Where it is.
        root: String,
        /// The disk that was chosen.
        disk: String,
    },
    /// `-X` names the disk of `-p`.
    #[error("disk {0} is both to be copied (-p) and to be left out (-X)")]
    Excluded(String),
    /// `-x` names no directory.
    #[error("-x {dir}: expected a directory of this machine", dir = .0.display())]
    NoDirectory(PathBuf),
    /// A mount point that can't be told in a plan.
    #[error("{0}: mount points that are not UTF-8 can't be copied")]
    MountPoint(String),
}

/// Makes the plan for a request from this machine as it is now.
///
/// # Errors
/// The first thing because of which the run can't be done as it was asked for.
pub fn make(request: &Request<'_>) -> Result<Planned, PlanError> {
    let file = request.desc.display().to_string();
    let text = std::fs::read_to_string(request.desc)
        .map_err(|source| PlanError::Read { file: request.desc.to_owned(), source })?;
    let desc = Desc::parse(&text, &file)?;
    let golden = scan::scan(&golden_disk(request)?)?;
    let exclude = excluded(request)?;
    let mut planned = decide(request, &golden, desc, &file, exclude)?;
    planned.plan.boot.golden_firmware = ka_agent::hardware::firmware();
    if scan::find(request.disk).is_err() {
        let note = format!("this machine has no {}: its disk {} is copied", request.disk, golden.name);
        planned.notes.push(note);
    }
    Ok(planned)
}

/// The golden disk: the one with the name, else the one with the root file system.
fn golden_disk(request: &Request<'_>) -> Result<String, PlanError> {
    let name = match scan::find(request.disk) {
        Ok(name) => name,
        Err(ScanError::NoDisk { .. }) => root_disk(request.disk)?,
        Err(e) => return Err(e.into()),
    };
    if request.exclude_disks.iter().any(|excluded| *excluded == name || excluded == request.disk) {
        return Err(PlanError::Excluded(name));
    }
    Ok(name)
}

fn root_disk(wanted: &str) -> Result<String, PlanError> {
    let failed = |source| PlanError::Scan(ScanError::Io { path: "/".into(), source });
    let mounts = mountinfo::read().map_err(failed)?;
    let root = mounts.iter().rfind(|m| m.mount_point == Path::new("/"));
    let device = root.map(|m| sysfs::source_number(m).unwrap_or(m.device));
    let name = device.and_then(|d| sysfs::name_of(d).ok()).unwrap_or_else(|| "no disk".to_owned());
    for disk in sysfs::disks().map_err(failed)? {
        if sysfs::partitions(&disk).map_err(failed)?.iter().any(|p| p.name == name) {
            return Ok(disk);
        }
    }
    Err(PlanError::Root { root: name, disk: wanted.to_owned() })
}

/// The directories themselves, sorted: the walk over the files meets no path that leads through a symbolic
/// link, and would leave out nothing for it.
fn excluded(request: &Request<'_>) -> Result<Vec<PathBuf>, PlanError> {
    let mut all = Vec::new();
    for dir in request.exclude_dirs {
        let real = dir.canonicalize().ok().filter(|real| dir.is_absolute() && real.is_dir());
        all.push(real.ok_or_else(|| PlanError::NoDirectory(dir.clone()))?);
    }
    // One that is not there yet has no other name.
    all.extend(request.own_dirs.iter().map(|dir| dir.canonicalize().unwrap_or_else(|_| dir.clone())));
    all.sort();
    all.dedup();
    Ok(all)
}

/// Makes the plan from what was found: no look at the machine but at what the excluded directories hold.
fn decide(
    request: &Request<'_>,
    golden: &GoldenDisk,
    desc: Desc,
    file: &str,
    exclude: Vec<PathBuf>,
) -> Result<Planned, PlanError> {
    ka::disk::layout::check_supported(&desc).map_err(|e| layout_error(file, &e))?;
    let mut planned = Planned {
        plan: Plan {
            run: request.run.to_owned(),
            disks: Vec::new(),
            boot: request.boot.clone(),
            finish: FinishPlan::default(),
            after: request.after,
        },
        sources: Vec::new(),
        exclude,
        notes: Vec::new(),
    };
    for partition in &golden.partitions {
        check_golden(partition, &desc, file)?;
        if desc.entry(partition.number).is_none() {
            let note = format!("the clones have no partition {}: {}", partition.number, told(partition));
            planned.notes.push(note);
        }
    }
    let mut file_systems = Vec::new();
    for entry in desc.entries() {
        let partition = golden.partitions.iter().find(|p| p.number == entry.number);
        file_systems.extend(plan_one(entry, partition, file, &mut planned)?);
    }
    if !file_systems.iter().any(|fs| fs.mount_point.as_deref() == Some("/")) {
        return Err(PlanError::Root { root: root_place(), disk: golden.name.clone() });
    }
    let disk = DiskPlan { file_systems, ..DiskPlan::new(request.disk.into(), desc) };
    check_fixed_sizes(&disk, file)?;
    planned.plan.disks.push(disk);
    planned.sources.sort_by_key(|s| s.mount_point.components().count());
    Ok(planned)
}

/// Every golden partition that is in use must be one that can be copied, and have its place.
fn check_golden(partition: &GoldenPartition, desc: &Desc, file: &str) -> Result<(), PlanError> {
    let golden = || told(partition);
    match &partition.usage {
        Usage::Unused => return Ok(()),
        Usage::Held { .. } => return Err(PlanError::Unsupported { golden: golden() }),
        Usage::Mounted { .. } if partition.contents.kind.as_deref() != Some("ext4") => {
            return Err(PlanError::Unsupported { golden: golden() });
        }
        Usage::Mounted { .. } | Usage::Swap => {}
    }
    match desc.entry(partition.number) {
        Some(_) => Ok(()),
        None => Err(PlanError::Missing { file: file.to_owned(), number: partition.number, golden: golden() }),
    }
}

/// What is made on one partition of the description.
fn plan_one(
    entry: &Entry,
    partition: Option<&GoldenPartition>,
    file: &str,
    planned: &mut Planned,
) -> Result<Option<FileSystemPlan>, PlanError> {
    let contents = partition.map(|p| &p.contents);
    // A machine that has hibernated once may have left its mark on the swap space.
    let golden_kind =
        contents.and_then(|c| c.kind.as_deref()).map(|k| if k == "swsuspend" { "swap" } else { k });
    let golden = || partition.map(told).unwrap_or_default();
    let wrong = |expected: &str| {
        let reason = format!(
            "expected {expected} for partition {}, found `{}`: {}",
            entry.number,
            entry.kind,
            golden()
        );
        PlanError::Line { file: file.to_owned(), line: entry.line, reason }
    };
    let kind = match (entry.kind, golden_kind) {
        (Kind::Data(SWAP), None | Some("swap")) => FileSystemKind::Swap,
        (Kind::Data(SWAP), Some(_)) => return Err(wrong("a type for files, such as `linux`")),
        (Kind::Data(_), Some("swap")) => return Err(wrong("`swap`")),
        (Kind::Data(_), Some("ext4")) => FileSystemKind::Ext4,
        (Kind::Data(ka::disk::desc::LINUX), None) => FileSystemKind::Ext4,
        (Kind::Data(ka::disk::desc::LINUX), Some(_)) => {
            return Err(PlanError::Unsupported { golden: golden() });
        }
        (Kind::Data(_) | Kind::Extended, _) => {
            planned.notes.push(format!(
                "partition {} is made without a file system: {}",
                entry.number,
                golden()
            ));
            return Ok(None);
        }
    };
    let mut fs = FileSystemPlan {
        label: contents.and_then(|c| c.label.clone()),
        golden: partition.map(GoldenPartition::names),
        ..FileSystemPlan::new(entry.number, kind)
    };
    match partition.map(|p| &p.usage) {
        Some(Usage::Mounted { at, device, used }) => {
            let path = at.to_str().ok_or_else(|| PlanError::MountPoint(golden()))?;
            fs.mount_point = Some(path.to_owned());
            fs.used = used.saturating_sub(left_out(&planned.exclude, *device));
            planned.sources.push(Chosen { mount_point: at.clone(), device: *device });
        }
        _ if kind == FileSystemKind::Ext4 => {
            let what = partition.map_or_else(|| NOT_GOLDEN.to_owned(), told);
            planned.notes.push(format!("partition {} is made empty: {what}", entry.number));
        }
        _ => {}
    }
    Ok(Some(fs))
}

/// Checks the sizes against a disk larger than any MBR can use, so that only what is fixed can fail.
fn check_fixed_sizes(disk: &DiskPlan, file: &str) -> Result<(), PlanError> {
    let largest = DiskSize::of_bytes(16 << 40, SectorSize::B4096);
    fit(disk, largest).map(drop).map_err(|reason| match &reason {
        FitError::Layout(e) => layout_error(file, e),
        FitError::TooSmall { number, size, used, .. } => PlanError::Line {
            file: file.to_owned(),
            line: disk.desc.entry(*number).map_or(1, |e| e.line),
            reason: format!(
                "partition {number} has {}, too small for the {} that the golden one uses",
                InMb(*size),
                InMb(*used)
            ),
        },
        _ => PlanError::Fit { file: file.to_owned(), reason },
    })
}

fn layout_error(file: &str, error: &LayoutError) -> PlanError {
    match error {
        LayoutError::Extended { line } => PlanError::Line {
            file: file.to_owned(),
            line: *line,
            reason: "extended and logical partitions are not supported yet: use at most 4 primaries"
                .to_owned(),
        },
        other => PlanError::Fit { file: file.to_owned(), reason: other.clone().into() },
    }
}

/// Bytes that files below the excluded directories use on one file system.
fn left_out(exclude: &[PathBuf], device: DeviceNumber) -> u64 {
    let outermost = exclude.iter().filter(|dir| !exclude.iter().any(|o| o != *dir && dir.starts_with(o)));
    outermost.map(|dir| used_below(dir, device)).sum()
}

/// Bytes that a tree's files use. Those with several names are not counted: another name may be copied.
/// What can't be read counts as nothing, which asks for more room than is needed.
fn used_below(dir: &Path, device: DeviceNumber) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if DeviceNumber::of(metadata.dev()) != device {
                continue;
            }
            if metadata.is_dir() {
                waiting.push(entry.path());
            } else if metadata.nlink() == 1 {
                bytes += metadata.blocks() * 512;
            }
        }
    }
    bytes
}

/// A golden partition as a person knows it.
fn told(partition: &GoldenPartition) -> String {
    let node = partition.node.display();
    let kind = partition.contents.kind.as_deref().unwrap_or("without a file system");
    match &partition.usage {
        Usage::Unused => format!("{node} is {kind}, not in use"),
        Usage::Mounted { at, .. } => format!("{node} is {kind}, mounted at {}", at.display()),
        Usage::Swap => format!("{node} is {kind}, in use"),
        Usage::Held { by } => format!("{node} is {kind}, part of {by}"),
    }
}

/// What the root file system is on, for a message.
fn root_place() -> String {
    let mounts = mountinfo::read().unwrap_or_default();
    let root = mounts.iter().rfind(|m| m.mount_point == Path::new("/"));
    root.map_or_else(|| "nothing that is known".to_owned(), |m| m.source.display().to_string())
}

#[cfg(test)]
mod tests;
