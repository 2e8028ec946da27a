//! From a disk of the golden node to the description that makes its like.
//!
//! Sizes are rounded up to whole MB, so that what is on the partitions fits; the last partition for
//! files gets `fill`, so that the description suits larger disks and smaller ones.

use super::scan::{GoldenDisk, GoldenPartition, Table, Usage};
use ka::disk::desc::{EXTENDED, line_of};
use ka::disk::description::{Description as Desc, Entry, Header, Role, Size};
use ka::disk::kind::{PartitionKind, TableKind};
use ka::disk::mbr::Mbr;
use ka::disk::problem::Problem;
use ka::disk::units::MB;
use std::fmt::Write;

/// A description with its comments, and what it doesn't say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The file's text.
    pub text: String,
    /// What a person should know about it.
    pub notes: Vec<String>,
}

/// Why a disk has no description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescribeError {
    /// A GPT.
    #[error("{0} has a GPT: descriptions of GPTs are not supported yet; write one for an MBR by hand")]
    Gpt(String),
    /// No table.
    #[error("{0} has no partition table that ka knows")]
    NoTable(String),
    /// A number that a description can't give.
    #[error(
        "{disk}: a description numbers partitions without gaps, and the table has no partition {missing} \
         before partition {number}: write a description by hand, and give partitions the same numbers"
    )]
    Gap {
        /// The disk's name.
        disk: String,
        /// The number that would be next.
        missing: u32,
        /// The partition that is next.
        number: u32,
    },
    /// Something that a description doesn't allow.
    #[error("{disk}: {problem}")]
    Problem {
        /// The disk's name.
        disk: String,
        /// What.
        problem: Problem,
    },
}

/// Describes a disk.
///
/// # Errors
/// The disk has no MBR, or one that a description can't say.
pub fn describe(disk: &GoldenDisk) -> Result<Description, DescribeError> {
    let mbr = match &disk.table {
        Table::Mbr(mbr) => mbr,
        Table::Gpt => return Err(DescribeError::Gpt(disk.name.clone())),
        Table::None => return Err(DescribeError::NoTable(disk.name.clone())),
    };
    let mut entries = entries(disk, mbr)?;
    let fill = set_fill(&mut entries);
    let problem = |problem| DescribeError::Problem { disk: disk.name.clone(), problem };
    let desc = Desc::new(Header::new(TableKind::Mbr), entries).map_err(problem)?;
    Ok(Description { text: text(disk, &desc), notes: notes(disk, fill) })
}

/// The table's partitions, primaries first.
fn entries(disk: &GoldenDisk, mbr: &Mbr) -> Result<Vec<Entry>, DescribeError> {
    let mut entries = Vec::new();
    for number in 1..=4 {
        let Some(entry) = mbr.entry(number) else { continue };
        let role = if entry.is_extended() { Role::Extended } else { Role::Primary };
        entries.push((number, entry.kind, role, entry.size.bytes(disk.size.sector)));
    }
    for logical in disk.partitions.iter().filter(|p| p.number > 4) {
        entries.push((logical.number, logical.kind.unwrap_or_default(), Role::Logical, logical.size));
    }
    let logicals = entries.iter().filter(|(_, _, role, _)| *role == Role::Logical);
    let inside: u64 = logicals.map(|(_, _, _, bytes)| (1 + bytes.div_ceil(MB)) * MB).sum();
    let mut expected = 1;
    let mut checked = Vec::new();
    for (line, (number, kind, role, bytes)) in (1..).zip(entries) {
        if number > 4 && expected <= 4 {
            expected = 5;
        }
        if number != expected {
            return Err(DescribeError::Gap { disk: disk.name.clone(), missing: expected, number });
        }
        expected += 1;
        // Each logical partition is rounded up, and gets a MB for its table.
        let (kind, bytes) =
            if role == Role::Extended { (EXTENDED, bytes.max(inside)) } else { (kind, bytes) };
        let size = Size::mb(u32::try_from(bytes.div_ceil(MB)).unwrap_or(u32::MAX));
        checked.push(Entry::new(number, PartitionKind::Mbr(kind), role, size, line));
    }
    Ok(checked)
}

/// Lets the last partition for files take what is left; in an extended one, that one too.
fn set_fill(entries: &mut [Entry]) -> bool {
    let is_data = |e: &&mut Entry| e.role != Role::Extended && !e.kind.is_swap();
    let Some(last) = entries.iter_mut().rev().find(is_data) else { return false };
    last.size = Size::Fill { weight: 1 };
    if last.role == Role::Logical
        && let Some(extended) = entries.iter_mut().find(|e| e.role == Role::Extended)
    {
        extended.size = Size::Fill { weight: 1 };
    }
    true
}

fn text(disk: &GoldenDisk, desc: &Desc) -> String {
    let mut text = format!(
        "# {}: {} MB, MBR, made by `kactl desc`.\n\
         # A line is [logical] TYPE SIZE; sizes are in MB of 2^20 bytes, `fill` takes what is left.\n",
        disk.name,
        disk.size.bytes() / MB
    );
    for entry in desc.entries() {
        let partition = disk.partitions.iter().find(|p| p.number == entry.number);
        let comment = partition.filter(|_| entry.role != Role::Extended).map(comment);
        let comment = comment.unwrap_or_else(|| format!("partition {}", entry.number));
        // Writing to a string can't fail.
        let _ = writeln!(text, "{:<24} # {comment}", line_of(desc, entry));
    }
    text
}

fn comment(partition: &GoldenPartition) -> String {
    let mut text = format!("{}, {} MB", partition.node.display(), partition.size.div_ceil(MB));
    let contents = &partition.contents;
    text += &format!(", {}", contents.kind.as_deref().unwrap_or("no file system"));
    if let Some(label) = &contents.label {
        // A comment is one line.
        text += &format!(" {:?}", label);
    }
    match &partition.usage {
        Usage::Mounted { at, .. } => {
            text += &format!(", mounted at {:?}", at.display().to_string()).replace('"', "")
        }
        Usage::Swap => text += ", in use",
        Usage::Held { by } => text += &format!(", part of {by}"),
        Usage::Unused => {}
    }
    text
}

fn notes(disk: &GoldenDisk, fill: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if !fill {
        notes.push(format!("{}: no partition for files, so none has `fill`", disk.name));
    }
    for partition in &disk.partitions {
        if let Usage::Held { by } = &partition.usage {
            notes.push(format!("{} is part of {by}, which can't be copied yet", partition.node.display()));
        }
    }
    notes
}

#[cfg(test)]
mod tests;
