//! From the golden disks and their descriptions to the plan of a run, or to what is wrong with them.
//!
//! The partitions of a description stand for those of its golden disk with the same numbers. All that can be
//! told is told here, before any node is touched.

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
use ka::plan::{After, BootPlan, FinishPlan, Loader, Plan, Storage};
use ka_host::mountinfo;
use ka_host::system::{Unready, unready};
pub use sizes::{WantedBytes, WantedSize};
use std::io;
use std::path::{Path, PathBuf};

/// What a person asks for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The run's name.
    pub run: &'a str,
    /// The disks to erase on the nodes (`-p`), one at least.
    pub disks: &'a [WantedDisk],
    /// Directories whose contents are left out (`-x`).
    pub exclude_dirs: &'a [PathBuf],
    /// Disks that are left out (`-X`). File systems of other disks than the chosen ones never are copied,
    /// so this can only contradict the choice.
    pub exclude_disks: &'a [String],
    /// ka's own working directories on this machine, which are left out too.
    pub own_dirs: Vec<PathBuf>,
    /// Partitions that are copied as they are (`-D`): kernel names or paths.
    pub raw: &'a [String],
    /// Boot code for the nodes' disks (`-m`, `-M`).
    pub boot_code: &'a [WantedBootCode],
    /// Fixed sizes are scaled by what a node's disk has of the golden one (`--scale`).
    pub scale: bool,
    /// File systems, partitions and disks keep their UUIDs (`--keep-uuids`).
    pub keep_uuids: bool,
    /// Sizes of logical volumes (`--lv`).
    pub sizes: &'a [WantedSize],
    /// The tree of tools that the nodes get; none to leave them unchecked.
    pub stage2: Option<PathBuf>,
    /// The boot loader (`-r`).
    pub boot: BootPlan,
    /// What the nodes do at the end.
    pub after: After,
}

/// A disk to erase on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedDisk {
    /// Which. The golden disk has the same name, or else is the one with the root file system.
    pub disk: DiskChoice,
    /// The description's file; the golden disk's own table if there is none.
    pub desc: Option<PathBuf>,
}

/// Boot code for a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedBootCode {
    /// The disk, as `-p` or this machine names it.
    pub disk: String,
    /// The file that has it; the golden disk if none.
    pub file: Option<PathBuf>,
}

/// A plan, and what to read for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What every node is asked for.
    pub plan: Plan,
    /// The golden file systems to copy, outer ones first.
    pub sources: Vec<Chosen>,
    /// The golden partitions to copy as they are.
    pub raw: Vec<RawSource>,
    /// Absolute paths of directories to re-create empty.
    pub exclude: Vec<PathBuf>,
    /// What a person should know before the nodes are erased.
    pub notes: Vec<String>,
    /// What of them the clones lack: a part of the run's result.
    pub lost: Tally,
    /// Why this system cannot be made to start by the other firmware, if it cannot.
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
        /// What the kernel said.
        error: io::Error,
    },
    /// The description has an error.
    #[error(transparent)]
    Desc(#[from] DescError),
    /// The golden disk's table gives no description.
    #[error(transparent)]
    Describe(#[from] DescribeError),
    /// The description, or one of its partitions, asks for what cannot be.
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
    #[error("{file}: expected a partition {number}: {golden}")]
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
    /// A golden partition that cannot be copied.
    #[error("{golden}: {reason}")]
    Unsupported {
        /// The golden partition, as a person knows it.
        golden: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The golden disk cannot be looked at.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The golden file systems cannot be looked at.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The root file system is somewhere else.
    #[error("the root file system is on {root}, expected it on a partition of {disk}")]
    Root {
        /// Where it is.
        root: String,
        /// The disks that were chosen.
        disk: String,
    },
    /// Which golden disk is meant cannot be told.
    #[error("-p {choice}: {reason}")]
    Choice {
        /// What was asked for.
        choice: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `-X` names the disk of `-p`.
    #[error("disk {0} is both to be copied (-p) and to be left out (-X)")]
    Excluded(String),
    /// `-x` names no directory.
    #[error("-x {dir}: expected a directory of this machine", dir = .0.display())]
    NoDirectory(PathBuf),
    /// `-D` names what cannot be copied as it is.
    #[error("-D {partition}: {reason}")]
    Raw {
        /// What was asked for.
        partition: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// `--lv` cannot be done.
    #[error("--lv {volume}: {reason}")]
    Size {
        /// The logical volume.
        volume: String,
        /// What is wrong.
        reason: String,
    },
    /// `-m` or `-M` cannot be done.
    #[error("boot code for {disk}: {reason}")]
    BootCode {
        /// The disk.
        disk: String,
        /// What is wrong.
        reason: String,
    },
    /// No initrd of this system could be built on a node.
    #[error("the nodes could not boot: {0}")]
    Kernels(String),
    /// A mount point that cannot be told in a plan.
    #[error("{0}: mount points that are not UTF-8 cannot be copied")]
    MountPoint(String),
    /// The nodes have no tool to make a file system.
    #[error(
        "{golden} is {kind}, and {stage2} has no {program} to make one on the nodes: install {package} on this \
         machine and run `kactl image` again",
        stage2 = .stage2.display()
    )]
    Tool {
        /// The file system, as a person knows it.
        golden: String,
        /// Its kind.
        kind: &'static str,
        /// The tool.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
        /// The tree of tools.
        stage2: PathBuf,
    },
}

/// Makes the plan for a request from this machine as it is now.
///
/// # Errors
/// The first thing because of which the run cannot be done as it was asked for.
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

/// The description of a golden disk's likes, and its name for messages.
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
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|source| PlanError::Read { file: path.clone(), error: source })?;
    Ok((Description::parse(&text, &file)?, file))
}

/// What would fail a node in its finish, when it has been erased: the system's kernels.
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

/// What the root file system is on, for a message.
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

    /// Tells of something that the clones lack, and counts it.
    fn lose(&mut self, kind: NoteKind, note: String) {
        self.lost.add(kind, &note);
        self.notes.push(note);
    }
}

#[cfg(test)]
mod tests;
