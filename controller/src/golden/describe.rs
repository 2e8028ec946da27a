//! Derives a description from a disk of the golden node.
//!
//! The last partition for files gets `fill`, so that the description suits larger and smaller disks; the
//! others keep their sizes. A run without a description uses the same one.

use super::scan::{GoldenDisk, GoldenVolume, Usage};
use ka::disk::description::{Description, Entry, Format, Role};
use ka::disk::kind::{PartitionKind, TableKind};
use ka::disk::problem::Problem;
use ka::disk::units::MB;
use ka::plan::FileSystemKind;
use std::fmt::Write;

/// A description, with notes for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The description.
    pub description: Description,
    /// What it does not express, or cannot be copied.
    pub notes: Vec<String>,
}

/// Why a disk cannot be described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescribeError {
    /// There is no table.
    #[error("{disk} has no partition table that ka can read: {reason}")]
    NoTable {
        /// The disk's name.
        disk: String,
        /// What is there instead.
        reason: String,
    },
    /// The table may have been read incorrectly.
    #[error("{disk}: {damage}: repair the partition table, or write a description by hand")]
    Damaged {
        /// The disk's name.
        disk: String,
        /// The problem.
        damage: String,
    },
    /// The disk has something that a description does not allow.
    #[error("{disk}: {problem}")]
    Problem {
        /// The disk's name.
        disk: String,
        /// The offending part.
        problem: Problem,
    },
}

/// Describes a disk.
///
/// # Errors
/// The disk has no table, or one that no description can express.
pub fn describe(disk: &GoldenDisk) -> Result<Described, DescribeError> {
    let name = || disk.name.clone();
    let table =
        disk.table.as_ref().map_err(|e| DescribeError::NoTable { disk: name(), reason: e.clone() })?;
    let (damage, odd): (Vec<_>, Vec<_>) = table.findings.iter().partition(|finding| finding.is_damage());
    if let Some(damage) = damage.first() {
        return Err(DescribeError::Damaged { disk: name(), damage: damage.to_string() });
    }
    let mut description =
        table.describe().map_err(|problem| DescribeError::Problem { disk: name(), problem })?;
    let mut notes: Vec<String> = odd.iter().map(|finding| format!("{}: {finding}", disk.name)).collect();
    notes.extend(mend_types(disk, &mut description));
    match last_for_files(disk, &description) {
        Some(number) => description.set_fill(number),
        None => notes.push(format!("{}: no partition for files, so none has `fill`", disk.name)),
    }
    notes.extend(disk.partitions.iter().filter_map(uncopied));
    Ok(Described { description, notes })
}

/// Gives partitions the type of their contents: Linux swaps to and mounts partitions of any type, but in a
/// description the type determines what is created. Returns the changes.
fn mend_types(disk: &GoldenDisk, description: &mut Description) -> Vec<String> {
    let table = description.table();
    let mut notes = Vec::new();
    for partition in &disk.partitions {
        let Some(number) = partition.number() else { continue };
        let Some(entry) = description.entry(number).filter(|e| e.role != Role::Extended) else { continue };
        let kind = match partition.file_system() {
            Some(FileSystemKind::Swap) if !entry.kind.is_swap() => PartitionKind::swap(table),
            Some(made) if made != FileSystemKind::Swap && entry.kind.is_swap() => PartitionKind::linux(table),
            _ => continue,
        };
        notes.push(format!(
            "{} is {} and has the type {}: the description says {}",
            partition.node.display(),
            partition.contents.kind.as_deref().unwrap_or_default(),
            entry.kind.name().map_or_else(|| entry.kind.to_string(), |name| format!("`{name}`")),
            kind.name().map_or_else(|| kind.to_string(), |name| format!("`{name}`")),
        ));
        description.set_kind(number, kind);
    }
    notes
}

/// A description's text in one of the two forms. The partitions' contents are added as comments; what the
/// form cannot express is added as both comments and notes. By default it is the short form, where that is
/// sufficient.
#[must_use]
pub fn render(disk: &GoldenDisk, described: &Described, format: Option<Format>) -> (String, Vec<String>) {
    let has_fill = described.description.entries().iter().any(Entry::is_fill);
    let format = format.unwrap_or(match described.description.table() {
        TableKind::Mbr if has_fill => Format::Desc,
        // The short form cannot express a GPT, and whole MB, one after the other, may need more space than
        // the disk has.
        TableKind::Mbr | TableKind::Gpt => Format::Sfdisk,
    });
    let rendered = described.description.render(format);
    let missing = rendered.missing.iter().map(|missing| format!("{}: {missing}", disk.name));
    let notes: Vec<String> = described.notes.iter().cloned().chain(missing).collect();
    let mut text = format!(
        "# {}: {} MB, {}, described by `kactl desc`.\n",
        disk.name,
        disk.size.bytes() / MB,
        described.description.table()
    );
    // Writing to a string cannot fail.
    for partition in &disk.partitions {
        let _ = writeln!(text, "# {}", comment(partition));
    }
    for note in &notes {
        let _ = writeln!(text, "# NOTE: {}", note.replace('\n', " "));
    }
    text += &rendered.text;
    (text, notes)
}

/// The last partition on the disk that files can fill: preferably one with a file system that is recreated,
/// otherwise one without any.
fn last_for_files(disk: &GoldenDisk, description: &Description) -> Option<u32> {
    let table = disk.table.as_ref().ok()?;
    let mut candidates: Vec<_> = description
        .entries()
        .iter()
        .filter(|entry| entry.role != Role::Extended && !entry.kind.is_of_fixed_size())
        .filter_map(|entry| {
            let partition = disk.partition(entry.number);
            let rank = rank(partition, entry.kind)?;
            Some((rank, table.partition(entry.number)?.start, entry.number))
        })
        .collect();
    candidates.sort();
    candidates.last().map(|(.., number)| *number)
}

fn rank(partition: Option<&GoldenVolume>, kind: PartitionKind) -> Option<u32> {
    match partition.map(|p| (p.file_system(), &p.contents.kind, &p.usage)) {
        Some((Some(FileSystemKind::Swap), ..)) => None,
        Some((Some(_), _, Usage::Mounted { .. })) => Some(3),
        Some((Some(_), ..)) => Some(2),
        // Its volumes follow.
        Some((None, Some(_), Usage::Held { .. })) if partition.is_some_and(GoldenVolume::is_in_group) => {
            Some(3)
        }
        // A partition that is copied byte by byte cannot use more space.
        Some((None, Some(_), _)) => None,
        Some((None, None, _)) | None => kind.is_linux_files().then_some(1),
    }
}

/// The part of a partition's contents that cannot be copied, if any.
fn uncopied(partition: &GoldenVolume) -> Option<String> {
    let node = partition.node.display();
    match &partition.usage {
        Usage::Held { .. } if partition.is_in_group() => None,
        Usage::Held { by } => Some(format!("{node} is part of {by}, which cannot be copied yet")),
        Usage::Exclusive => Some(format!("{node} is in use by an unknown program, and cannot be copied")),
        Usage::Unused | Usage::Mounted { .. } | Usage::Swap => None,
    }
}

fn comment(partition: &GoldenVolume) -> String {
    let mut text = format!("{}: {} MB", partition.node.display(), partition.size.div_ceil(MB));
    let contents = &partition.contents;
    if partition.kind.is_some_and(PartitionKind::is_extended) {
        return text + ", extended";
    }
    text += &format!(", {}", contents.kind.as_deref().unwrap_or("no file system"));
    if let Some(label) = &contents.label {
        // A comment is limited to one line.
        text += &format!(" {label:?}");
    }
    match &partition.usage {
        Usage::Mounted { at, used, .. } => {
            let at = format!("{:?}", at.display().to_string());
            text += &format!(", mounted at {}, {} MB used", at.trim_matches('"'), used.div_ceil(MB));
        }
        Usage::Swap => text += ", in use",
        Usage::Held { by } => text += &format!(", part of {by}"),
        Usage::Exclusive => text += ", in use by an unknown program",
        Usage::Unused => {}
    }
    text
}

#[cfg(test)]
mod tests;
