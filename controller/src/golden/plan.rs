//! Makes the plan of a run from the golden disks and their descriptions, or reports what is wrong with them.
//!
//! The partitions of a description correspond to those of its golden disk with the same numbers. Every
//! problem that can be detected is reported here, before any node is touched.

mod boot_code;
mod covered;
mod disk;
mod exclude;
mod fat_names;
mod firmware;
mod golden;
mod groups;
mod protected;
mod raw;
mod sizes;
mod tools;

use super::chosen::{Chosen, RawSource};
use super::describe::{self, DescribeError};
use super::devices;
use super::scan::{self, GoldenDisk, ScanError};
use super::view::ViewError;
use ka::disk::choice::DiskChoice;
use ka::disk::description::Description;
use ka::disk::problem::DescError;
use ka::notes::{NoteKind, Tally};
use ka::plan::fit::FitError;
use ka::plan::{BootPlan, FinalAction, FinishPlan, Loader, Plan, Storage};
use ka_host::mountinfo;
use ka_host::system::{Unready, unready};
pub use sizes::{WantedBytes, WantedSize};
use std::io;
use std::path::{Path, PathBuf};

/// The operator's request.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The run's name.
    pub run: &'a str,
    /// The disks to erase on the nodes (`-p`), at least one.
    pub disks: &'a [WantedDisk],
    /// Directories whose contents are excluded (`-x`).
    pub exclude_dirs: &'a [PathBuf],
    /// Disks that are excluded (`-X`). File systems on disks other than the chosen ones are never copied, so
    /// this can only contradict the choice.
    pub exclude_disks: &'a [String],
    /// ka's own working directories on this machine, which are excluded, too.
    pub own_dirs: Vec<PathBuf>,
    /// Partitions that are copied byte by byte (`-D`): kernel names or paths.
    pub raw: &'a [String],
    /// Boot code for the nodes' disks (`-m`, `-M`).
    pub boot_code: &'a [WantedBootCode],
    /// Fixed sizes are scaled by the ratio of a node's disk to the golden one (`--scale`).
    pub scale: bool,
    /// File systems, partitions and disks keep their UUIDs (`--keep-uuids`).
    pub keep_uuids: bool,
    /// Sizes of logical volumes (`--lv`).
    pub sizes: &'a [WantedSize],
    /// The tree of tools for the nodes; `None` skips the check.
    pub stage2: Option<PathBuf>,
    /// The boot loader (`-r`).
    pub boot: BootPlan,
    /// The final action of the nodes.
    pub after: FinalAction,
}

/// A disk to erase on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedDisk {
    /// Its name. The golden disk has the same name, or is otherwise the one with the root file system.
    pub disk: DiskChoice,
    /// The description's file; `None` for the golden disk's own table.
    pub desc: Option<PathBuf>,
}

/// Boot code for a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedBootCode {
    /// The disk, by its name in `-p` or on this machine.
    pub disk: String,
    /// The file with the boot code; `None` for the golden disk's.
    pub file: Option<PathBuf>,
}

/// A plan, and the sources to read for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The requirements for every node.
    pub plan: Plan,
    /// The golden file systems to copy, outer mount points first.
    pub sources: Vec<Chosen>,
    /// The golden partitions to copy byte by byte.
    pub raw: Vec<RawSource>,
    /// Absolute paths of directories to re-create empty.
    pub exclude: Vec<PathBuf>,
    /// Notes for the operator before the nodes are erased.
    pub notes: Vec<String>,
    /// Those notes about what the clones lack: they become part of the run's result.
    pub lost: Tally,
    /// Why this system cannot be made to boot by the other firmware, if it cannot.
    pub other_firmware: Option<String>,
}

/// Why there is no plan. No node was touched.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A file cannot be read.
    #[error("{file}: {error}", file = .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The kernel's error.
        error: io::Error,
    },
    /// The description has an error.
    #[error(transparent)]
    Desc(#[from] DescError),
    /// The golden disk's table cannot be described.
    #[error(transparent)]
    Describe(#[from] DescribeError),
    /// The description, or one of its partitions, asks for something impossible.
    #[error("{file}:{line}: {reason}")]
    Line {
        /// The description's file.
        file: String,
        /// The line, from 1.
        line: u32,
        /// The problem, and what was expected.
        reason: String,
    },
    /// A golden partition that the clones would lack.
    #[error("{file}: expected a partition {number}: {golden}")]
    Missing {
        /// The description's file.
        file: String,
        /// The partition's number.
        number: u32,
        /// The golden partition as named for the operator.
        golden: String,
    },
    /// The sizes do not add up.
    #[error("{file}: {reason}")]
    Fit {
        /// The description's file.
        file: String,
        /// The problem.
        reason: FitError,
    },
    /// A golden partition that cannot be copied.
    #[error("{golden}: {reason}")]
    Unsupported {
        /// The golden partition as named for the operator.
        golden: String,
        /// The reason, and what to do.
        reason: String,
    },
    /// The golden disk cannot be examined.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The golden file systems cannot be examined.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The root file system is on another disk.
    #[error("the root file system is on {root}, expected it on a partition of {disk}")]
    Root {
        /// The other disk.
        root: String,
        /// The disks that were chosen.
        disk: String,
    },
    /// The golden disk cannot be determined.
    #[error("-p {choice}: {reason}")]
    Choice {
        /// The request.
        choice: String,
        /// The problem.
        reason: String,
    },
    /// `-X` names the disk of `-p`.
    #[error("disk {0} is both copied (-p) and left out (-X)")]
    Excluded(String),
    /// `-x` does not name a directory.
    #[error("-x {dir}: expected a directory of this machine", dir = .0.display())]
    NoDirectory(PathBuf),
    /// `-D` names something that cannot be copied byte by byte.
    #[error("-D {partition}: {reason}")]
    Raw {
        /// The argument.
        partition: String,
        /// The problem, and what to do.
        reason: String,
    },
    /// A size of `--lv` is not possible.
    #[error("--lv {volume}: {reason}")]
    Size {
        /// The logical volume.
        volume: String,
        /// The problem.
        reason: String,
    },
    /// `-m` or `-M` is not possible.
    #[error("boot code for {disk}: {reason}")]
    BootCode {
        /// The disk.
        disk: String,
        /// The problem.
        reason: String,
    },
    /// No initrd for this system could be built on a node.
    #[error("the nodes could not boot: {0}")]
    Kernels(String),
    /// A mount point that a plan cannot contain.
    #[error("{0}: mount points that are not UTF-8 cannot be copied")]
    MountPoint(String),
    /// The nodes lack the tool to create a file system.
    #[error(
        "{golden} is {kind}, and {stage2} has no {program} to make one on the nodes: install {package} on this \
         machine and run `kactl image` again",
        stage2 = .stage2.display()
    )]
    Tool {
        /// The file system as named for the operator.
        golden: String,
        /// Its type.
        kind: &'static str,
        /// The tool.
        program: &'static str,
        /// The Debian package that provides it.
        package: &'static str,
        /// The tree of tools.
        stage2: PathBuf,
    },
}

/// Makes the plan for a request from the current state of this machine.
///
/// # Errors
/// The first reason why the run is not possible as requested.
pub fn make(request: &Request<'_>) -> Result<Planned, PlanError> {
    let exclude = exclude::directories(request.exclude_dirs, &request.own_dirs)?;
    let (choices, disks) = golden::disks(request)?;
    let found = scan::groups(&disks)?;
    let members = groups::members(&found, &disks)?;
    sizes::check(request.sizes, &found)?;
    let raw = raw::wanted(request.raw, &disks)?;
    let mut planned = Planned::new(request, exclude);
    planned.plan.finish.machine = devices::machine(Path::new("/"));
    for ((wanted, choice), golden) in request.disks.iter().zip(choices).zip(&disks) {
        let (desc, file) = description(wanted, golden, &mut planned.notes)?;
        let job = disk::Job { request, golden, file: &file, raw: &raw, groups: &members };
        let mut storage = disk::plan(&job, choice, desc, &mut planned)?;
        boot_code::add(request, golden, &mut storage)?;
        planned.plan.storage.append(storage);
    }
    if let Some(golden) = disks.first() {
        let job = disk::Job { request, golden, file: "", raw: &raw, groups: &members };
        groups::plan(&job, &found, &mut planned)?;
    }
    boot_code::check(request, &disks)?;
    if request.boot.convert_firmware {
        firmware::convert(&mut planned, Path::new("/"));
    }
    check_root(&planned, &disks)?;
    check_kernels(&mut planned, Path::new("/"))?;
    if let Some(stage2) = &request.stage2 {
        tools::check(stage2, &planned.plan)?;
    }
    planned.notes.extend(golden::left_out(&disks, request.exclude_disks));
    planned.sources.sort_by_key(|s| s.mount_point.components().count());
    covered::note(&mut planned)?;
    protected::check(&mut planned)?;
    fat_names::check(&planned)?;
    Ok(planned)
}

/// The description for disks like a golden disk, and its name in messages.
fn description(
    wanted: &WantedDisk,
    golden: &GoldenDisk,
    notes: &mut Vec<String>,
) -> Result<(Description, String), PlanError> {
    let Some(path) = &wanted.desc else {
        let described = describe::describe(golden)?;
        notes.extend(described.notes);
        return Ok((described.description, format!("the table of {}", golden.name)));
    };
    Ok((read(path)?, path.display().to_string()))
}

/// Reads a description's file.
///
/// # Errors
/// The file cannot be read, or what is wrong in it.
pub fn read(path: &Path) -> Result<Description, PlanError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| PlanError::Read { file: path.to_owned(), error: source })?;
    Ok(Description::parse(&text, &path.display().to_string())?)
}

/// Checks for problems that would fail a node in its finish, after it has been erased: the system's kernels.
fn check_kernels(planned: &mut Planned, root: &Path) -> Result<(), PlanError> {
    let unready = unready(root).map_err(|e| PlanError::Kernels(e.to_string()))?;
    match unready {
        None => Ok(()),
        Some(Unready::NoKernel(reason)) if planned.plan.boot.loader == Loader::None => {
            planned.notes.push(format!("no initrd is built on the nodes: {reason}"));
            Ok(())
        }
        Some(unready) => Err(PlanError::Kernels(unready.reason().to_owned())),
    }
}

fn check_root(planned: &Planned, disks: &[GoldenDisk]) -> Result<(), PlanError> {
    if planned.sources.iter().any(|source| source.mount_point == Path::new("/")) {
        return Ok(());
    }
    let names: Vec<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
    Err(PlanError::Root { root: root_place(), disk: names.join(", ") })
}

/// The device of the root file system, for a message.
fn root_place() -> String {
    let mounts = mountinfo::read().unwrap_or_default();
    let root = mounts.iter().rfind(|m| m.mount_point == Path::new("/"));
    root.map_or_else(|| "nothing that is known".to_owned(), |m| m.source.display().to_string())
}

impl Planned {
    fn new(request: &Request<'_>, exclude: Vec<PathBuf>) -> Self {
        let plan = Plan {
            run: request.run.to_owned(),
            storage: Storage::default(),
            boot: BootPlan { golden_firmware: ka_host::hardware::firmware(), ..request.boot.clone() },
            finish: FinishPlan::default(),
            after: request.after,
        };
        Self {
            plan,
            sources: Vec::new(),
            raw: Vec::new(),
            exclude,
            notes: Vec::new(),
            lost: Tally::default(),
            other_firmware: None,
        }
    }

    /// Notes something that the clones lack, and counts it.
    fn lose(&mut self, kind: NoteKind, note: String) {
        self.lost.add(kind, &note);
        self.notes.push(note);
    }
}

#[cfg(test)]
mod tests;
