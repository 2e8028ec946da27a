//! `ka-agent disk`: a run's work on a disk, by itself, on any Linux machine.

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::disk;
use crate::step::step;
use ka::disk::choice::{DiskChoice, ParseChoiceError};
use ka::disk::description::Description;
use ka::disk::kind::PartitionKind;
use ka::disk::table::{Table, TableError};
use ka::disk::units::{DiskSize, SectorSize};
use ka::inventory::Disk;
use ka::plan::report::{DiskAction, OfDisk, Report};
use ka::plan::{ConfirmedStorage, DiskPlan, FileSystemKind, FileSystemPlan, Storage};
use ka::shown;
use ka::step::Step;
use ka_host::{hardware, terminal};
use serde::Serialize;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show what is on a disk, or on all
    Show {
        /// sda, /dev/sda, by-id:PATTERN; all disks without it
        #[arg(long, value_name = "DISK", value_parser = choice)]
        disk: Option<DiskChoice>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what 'apply' would erase and write, and write nothing
    Plan {
        #[command(flatten)]
        wanted: Wanted,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Erase a disk and partition it by a description, with empty file systems
    Apply {
        #[command(flatten)]
        wanted: Wanted,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(clap::Args)]
struct Wanted {
    /// sda, /dev/sda, sda:size=480G, auto, by-id:PATTERN
    #[arg(long, value_name = "DISK", value_parser = choice)]
    disk: DiskChoice,
    /// The description: 'TYPE SIZE' lines, or a script of sfdisk
    #[arg(long, value_name = "FILE")]
    desc: PathBuf,
    /// File system for partitions of Linux's types: ext2, ext3, ext4, xfs, jfs, reiserfs, btrfs
    #[arg(long, value_name = "KIND", default_value = "ext4", value_parser = file_system)]
    fs: FileSystemKind,
}

/// The output of `show` for one disk.
#[derive(Serialize)]
struct Shown {
    disk: Disk,
    /// Errors in its table, or anything unusual.
    findings: Vec<String>,
}

/// Why nothing was done, or not everything.
#[derive(Debug, thiserror::Error)]
enum DiskCommandError {
    #[error("cannot read {file}: {error}", file = .file.display())]
    Read { file: PathBuf, error: io::Error },
    #[error(transparent)]
    Description(#[from] ka::disk::problem::DescError),
    #[error(transparent)]
    Disk(#[from] disk::DiskError),
    #[error(transparent)]
    Choice(#[from] ka::disk::choice::ChoiceError),
    #[error("not confirmed: nothing was written")]
    NotConfirmed,
    #[error("nothing was written")]
    Refused,
    #[error("cannot print: {0}")]
    Print(io::Error),
    #[error("cannot print JSON: {0}")]
    Json(serde_json::Error),
}

impl From<serde_json::Error> for DiskCommandError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl From<io::Error> for DiskCommandError {
    fn from(error: io::Error) -> Self {
        Self::Print(error)
    }
}

/// Runs the command: 0 done, 1 refused or failed, 2 usage.
pub(super) fn run(args: &Args) -> ExitCode {
    let mut out = terminal::out();
    let done = match &args.command {
        Command::Show { disk, json } => show(disk.as_ref(), *json, &mut out),
        Command::Plan { wanted, json } => plan(wanted, *json, &mut out),
        Command::Apply { wanted, yes } => apply(wanted, *yes, &mut out),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal::complain(super::NAME, &failure);
            let is_usage =
                matches!(failure, DiskCommandError::Read { .. } | DiskCommandError::Description(_));
            ExitCode::from(if is_usage { 2 } else { 1 })
        }
    }
}

fn show(choice: Option<&DiskChoice>, json: bool, out: &mut dyn Write) -> Result<(), DiskCommandError> {
    let disks = hardware::disks(true);
    let found: Vec<Disk> = match choice {
        Some(choice) => vec![disk::named(choice).look_at(&disks)?.clone()],
        None => disks,
    };
    let shown: Vec<Shown> = found.into_iter().map(|disk| Shown { findings: findings(&disk), disk }).collect();
    if json {
        return print_json(&shown, out);
    }
    for Shown { disk, findings } in &shown {
        write!(out, "{}", OfDisk(disk))?;
        for finding in findings {
            writeln!(out, "    {}", shown::field(finding))?;
        }
    }
    Ok(())
}

/// What is wrong with a disk's table, or why it cannot be read; `None` if it has no table.
fn findings(disk: &Disk) -> Vec<String> {
    let node = Path::new("/dev").join(disk.name.replace('!', "/"));
    let sector = match SectorSize::try_from(disk.sector_size) {
        Ok(sector) => sector,
        Err(e) => return vec![e.to_string()],
    };
    let table = fs::File::open(node).map_err(TableError::from).and_then(|mut file| {
        let size = DiskSize::of_bytes(disk.size, sector);
        Table::read(&mut file, size)
    });
    match table {
        Ok(table) => table.findings.iter().map(ToString::to_string).collect(),
        Err(TableError::None(_)) => Vec::new(),
        Err(e) => vec![e.to_string()],
    }
}

fn plan(wanted: &Wanted, json: bool, out: &mut dyn Write) -> Result<(), DiskCommandError> {
    let (report, _) = report(&plan_of(wanted)?);
    if json {
        print_json(&report, out)?;
    } else {
        write!(out, "{report}")?;
    }
    if report.is_accepted() { Ok(()) } else { Err(DiskCommandError::Refused) }
}

fn apply(wanted: &Wanted, yes: bool, out: &mut dyn Write) -> Result<(), DiskCommandError> {
    let plan = plan_of(wanted)?;
    let (report, meant) = report(&plan);
    write!(out, "{report}")?;
    let Some(disk) = meant else { return Err(DiskCommandError::Refused) };
    if !yes && !confirmed(out)? {
        return Err(DiskCommandError::NotConfirmed);
    }
    let mut prepared = disk::prepare(&disk, Path::new("/"))?;
    let ended = prepared
        .unmount()
        .and_then(|()| step(Step::ReadBack, || prepared.prove()))
        .and_then(|()| prepared.activate(None));
    if let Err(error) = ended {
        prepared.abandon();
        return Err(error.into());
    }
    for made in &prepared.made {
        writeln!(out, "{}: {} with UUID {}", made.device.display(), made.plan.kind, made.uuid)?;
    }
    Ok(())
}

fn confirmed(out: &mut dyn Write) -> io::Result<bool> {
    write!(out, "Type 'yes' to erase the disk: ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// What would happen to the disk, and the disk's name if it would be written. What only the disk itself and
/// this machine's tools can show is found out by claiming it.
fn report(storage: &Storage) -> (Report, Option<ConfirmedStorage>) {
    let mut report = Report::new(storage, &hardware::disks(true));
    let shown = report.disks.iter().filter_map(|disk| disk.disk.as_ref());
    let identities = shown.map(|disk| disk.identity.clone()).collect();
    let confirmed = ConfirmedStorage::new(storage.clone(), identities).filter(|_| report.is_accepted());
    let Some(confirmed) = confirmed else { return (report, None) };
    if let Err(refusal) = disk::check(&confirmed) {
        for disk in &mut report.disks {
            disk.outcome = DiskAction::Refuse(refusal.to_string());
        }
        return (report, None);
    }
    (report, Some(confirmed))
}

/// The meaning of the description's types: swap, an EFI system partition, or Linux files.
fn plan_of(wanted: &Wanted) -> Result<Storage, DiskCommandError> {
    let Wanted { disk, desc, fs } = wanted;
    let text = fs::read_to_string(desc)
        .map_err(|source| DiskCommandError::Read { file: desc.clone(), error: source })?;
    let description = Description::parse(&text, &desc.display().to_string())?;
    let makes = |kind: PartitionKind| match kind {
        kind if kind.is_swap() => Some(FileSystemKind::Swap),
        kind if kind.is_esp() => Some(FileSystemKind::Vfat),
        kind if kind.is_linux_files() => Some(*fs),
        _ => None,
    };
    let entries = description.entries().iter();
    let contents: Vec<(u32, FileSystemPlan)> =
        entries.filter_map(|entry| Some((entry.number, FileSystemPlan::new(makes(entry.kind)?)))).collect();
    Ok(Storage::of(DiskPlan::new(disk::named(disk), description), contents))
}

/// Not through `From<&str>`, which accepts anything as a name.
fn choice(text: &str) -> Result<DiskChoice, ParseChoiceError> {
    text.parse()
}

fn file_system(name: &str) -> Result<FileSystemKind, String> {
    match FileSystemKind::of_name(name) {
        Some(FileSystemKind::Swap | FileSystemKind::Vfat) | None => {
            Err("expected ext2, ext3, ext4, xfs, jfs, reiserfs or btrfs".to_owned())
        }
        Some(kind) => Ok(kind),
    }
}

fn print_json(value: &impl Serialize, out: &mut dyn Write) -> Result<(), DiskCommandError> {
    Ok(writeln!(out, "{}", shown::json(&serde_json::to_string_pretty(value)?))?)
}
