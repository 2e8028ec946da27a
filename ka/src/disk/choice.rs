//! Which of a node's disks a run means.
//!
//! The kernel's names are given in the order in which disks were found, so `sda` need not be the same disk
//! at every boot, nor on every node. A choice may say more than the name: size, model, serial number; or
//! it may go by the disk's own name in /dev/disk/by-id. Whatever it says, it means one disk for sure, or
//! it is an error that tells which disks there are.

mod parse;
#[cfg(test)]
mod tests;

use super::units::Decimal;
use crate::glob::fits_exactly;
use crate::inventory::Disk;
use serde::{Deserialize, Serialize};
use std::fmt;

pub use parse::{ParseChoiceError, parse_size};

/// Which disk of a node to erase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskChoice {
    /// The one with this name of the kernel's, if it is what is expected (`-p sda`, `-p sda:size=480G`).
    Name {
        /// The name, such as `sda` or `nvme0n1`.
        name: String,
        /// What the disk must be besides.
        expect: Expect,
    },
    /// The only fixed disk, or the only one that is like the golden one (`-p auto`).
    Auto {
        /// How the golden disk is attached, as the inventory has it; empty if that is not known.
        bus: String,
        /// The golden disk's size in bytes; 0 if that is not known.
        size: u64,
        /// Disks by name that are not meant (`-X`). Of the others only one like the golden one is, because
        /// names may have changed places since.
        except: Vec<String>,
    },
    /// The one with a name in /dev/disk/by-id that fits the pattern, with `*`, `?` and `[…]` (`-p by-id:PATTERN`).
    ById(String),
}

/// What a disk must be besides having a name. What is not said is not checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    /// Its size in bytes; a disk sold by that size is within 5 % of it.
    pub size: Option<u64>,
    /// Text in its model.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
}

/// Why a choice means no disk for sure. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// There is no such disk.
    #[error("{choice}: this machine has no such disk; it has {present}")]
    Missing {
        /// What was asked for.
        choice: String,
        /// The disks that are there.
        present: String,
    },
    /// More than one disk could be meant.
    #[error(
        "{choice}: several disks could be meant: {candidates}; say which with `sda:serial=…` or `by-id:…`"
    )]
    Several {
        /// What was asked for.
        choice: String,
        /// The disks that could be meant.
        candidates: String,
    },
    /// The disk with the name is another one.
    #[error("{disk}: expected {what} `{expected}`, found `{found}`: it is another disk, and stays as it is")]
    Deviates {
        /// The disk's name.
        disk: String,
        /// What differs: `size`, `model`, `serial`.
        what: &'static str,
        /// What the choice says.
        expected: String,
        /// What the disk says.
        found: String,
    },
    /// The disk is of a kind that is not written to.
    #[error("{disk}: {reason}")]
    Unfit {
        /// The disk with size and model.
        disk: String,
        /// What is wrong with it.
        reason: Unfit,
    },
    /// Two choices mean one disk.
    #[error("`{first}` and `{second}` mean the same disk, {disk}")]
    Twice {
        /// The first choice.
        first: String,
        /// The second.
        second: String,
        /// The disk's name.
        disk: String,
    },
}

/// What keeps a disk from being written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Its media can be taken out.
    #[error("it is a removable medium, and those are never erased")]
    Removable,
    /// Other machines may use it.
    #[error("it lies in a storage network: such a disk is erased only if it is chosen with `by-id:…`")]
    Network,
    /// It may be anybody's: a disk that a person has plugged in.
    #[error(
        "it is an external disk ({0}): such a disk is erased only if it is chosen with `by-id:…`, `size=` or `serial=`"
    )]
    External(String),
    /// Somebody uses it.
    #[error("it is in use: {0}")]
    InUse(String),
}

impl DiskChoice {
    /// The kernel's name that it gives, if it gives one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name { name, .. } => Some(name),
            Self::Auto { .. } | Self::ById(_) => None,
        }
    }

    /// The disk that it means among those of a machine.
    ///
    /// # Errors
    /// It means none, or more than one, or one that is not written to.
    pub fn find<'a>(&self, disks: &'a [Disk]) -> Result<&'a Disk, ChoiceError> {
        self.find_among(&disks.iter().collect::<Vec<_>>())
    }

    /// The same, though nothing may be written to the disk: it may be in use, removable, or in a network.
    ///
    /// # Errors
    /// It means none, or more than one.
    pub fn look_at<'a>(&self, disks: &'a [Disk]) -> Result<&'a Disk, ChoiceError> {
        self.meant_among(&disks.iter().collect::<Vec<_>>())
    }

    /// Whether it says which disk is meant by more than a name that every machine has: what was said fits this disk.
    fn is_certain(&self) -> bool {
        match self {
            Self::Name { expect, .. } => expect.size.is_some() || expect.serial.is_some(),
            Self::Auto { .. } => false,
            Self::ById(_) => true,
        }
    }

    fn find_among<'a>(&self, disks: &[&'a Disk]) -> Result<&'a Disk, ChoiceError> {
        let disk = self.meant_among(disks)?;
        match unfit(disk, self) {
            Some(reason) => Err(ChoiceError::Unfit { disk: tell(disk), reason }),
            None => Ok(disk),
        }
    }

    fn meant_among<'a>(&self, disks: &[&'a Disk]) -> Result<&'a Disk, ChoiceError> {
        let candidates: Vec<&Disk> = match self {
            Self::Name { name, .. } => disks.iter().copied().filter(|disk| disk.name == *name).collect(),
            Self::Auto { bus, size, except } => automatic(bus, *size, except, disks),
            Self::ById(pattern) => {
                let fits = |disk: &&Disk| disk.by_id.iter().any(|name| fits_exactly(pattern, name));
                one_of_each(disks.iter().copied().filter(fits).collect())
            }
        };
        let disk = match candidates.as_slice() {
            [one] => one,
            [] => {
                return Err(ChoiceError::Missing { choice: self.to_string(), present: list(disks) });
            }
            _ => {
                return Err(ChoiceError::Several { choice: self.to_string(), candidates: list(&candidates) });
            }
        };
        if let Self::Name { expect, .. } = self {
            expect.check(disk)?;
        }
        Ok(disk)
    }
}

/// The disks that several choices mean, in their order: a disk each. `auto` means one of those that no
/// other choice names.
///
/// # Errors
/// A choice means no disk for sure, or two mean the same.
pub fn find_all<'a>(choices: &[&DiskChoice], disks: &'a [Disk]) -> Result<Vec<&'a Disk>, ChoiceError> {
    let mut found: Vec<Option<&Disk>> = vec![None; choices.len()];
    let is_auto = |choice: &DiskChoice| matches!(choice, DiskChoice::Auto { .. });
    for automatic in [false, true] {
        for (i, choice) in choices.iter().enumerate().filter(|(_, choice)| is_auto(choice) == automatic) {
            let taken = |disk: &Disk| found.iter().flatten().any(|other| other.name == disk.name);
            let left: Vec<&Disk> = disks.iter().filter(|disk| !automatic || !taken(disk)).collect();
            let disk = choice.find_among(&left)?;
            let other = choices
                .iter()
                .zip(&found)
                .find(|(_, other)| other.is_some_and(|other| other.name == disk.name));
            if let Some((first, _)) = other {
                return Err(ChoiceError::Twice {
                    first: first.to_string(),
                    second: choice.to_string(),
                    disk: disk.name.clone(),
                });
            }
            if let Some(place) = found.get_mut(i) {
                *place = Some(disk);
            }
        }
    }
    Ok(found.into_iter().flatten().collect())
}

impl Expect {
    fn check(&self, disk: &Disk) -> Result<(), ChoiceError> {
        let deviates = |what, expected: &str, found: &str| {
            let (expected, found) = (expected.to_owned(), found.to_owned());
            Err(ChoiceError::Deviates { disk: disk.name.clone(), what, expected, found })
        };
        match (self.size, &self.model, &self.serial) {
            (Some(size), _, _) if !is_about(disk.size, size) => {
                deviates("size", &Decimal(size).to_string(), &Decimal(disk.size).to_string())
            }
            (_, Some(model), _) if !disk.model.contains(model.as_str()) => {
                deviates("model", model, &disk.model)
            }
            (_, _, Some(serial)) if disk.serial != *serial => deviates("serial", serial, &disk.serial),
            _ => Ok(()),
        }
    }
}

/// The fixed disks of this machine if there is one, else those like the golden one. One in use counts: a
/// machine whose second disk is busy has two. Where some are left out, nothing but one like the golden is.
fn automatic<'a>(bus: &str, size: u64, except: &[String], disks: &[&'a Disk]) -> Vec<&'a Disk> {
    let fixed: Vec<&Disk> = disks
        .iter()
        .copied()
        .filter(|disk| !disk.removable && !disk.network && !disk.is_external() && disk.bus != "loop")
        .collect();
    let is_left_out = |disk: &&Disk| except.contains(&disk.name);
    let is_like = |disk: &&Disk| disk.bus == bus && is_about(disk.size, size) && !is_left_out(disk);
    let like_golden: Vec<&Disk> = fixed.iter().copied().filter(is_like).collect();
    let only = fixed.len() < 2 || like_golden.is_empty();
    if only && !fixed.iter().any(is_left_out) { fixed } else { like_golden }
}

/// A disk that is reached over several paths has all its own names on each of them: one stands for all.
fn one_of_each(disks: Vec<&Disk>) -> Vec<&Disk> {
    let mut kept: Vec<&Disk> = Vec::new();
    for disk in disks {
        let same = |other: &&Disk| {
            other.network && disk.network && other.size == disk.size && other.by_id == disk.by_id
        };
        if !kept.iter().any(same) {
            kept.push(disk);
        }
    }
    kept
}

fn unfit(disk: &Disk, choice: &DiskChoice) -> Option<Unfit> {
    if disk.removable {
        Some(Unfit::Removable)
    } else if disk.network && !matches!(choice, DiskChoice::ById(_)) {
        Some(Unfit::Network)
    } else if disk.is_external() && !choice.is_certain() {
        Some(Unfit::External(disk.bus.clone()))
    } else if disk.in_use {
        Some(Unfit::InUse(disk.usage.clone().unwrap_or_else(|| "by whom is not known".to_owned())))
    } else {
        None
    }
}

/// Disks that are sold by one size differ by less than this: 480 GB may be 480,103,981,056 bytes.
fn is_about(size: u64, nominal: u64) -> bool {
    size.abs_diff(nominal) <= nominal / 20
}

/// Disks as a person tells them apart.
fn list(disks: &[&Disk]) -> String {
    if disks.is_empty() {
        return "no disk at all".to_owned();
    }
    disks.iter().map(|disk| tell(disk)).collect::<Vec<_>>().join(", ")
}

fn tell(disk: &Disk) -> String {
    let mut facts = vec![Decimal(disk.size).to_string()];
    let said = |label: &str, text: &str| (!text.is_empty()).then(|| format!("{label}{text}"));
    facts.extend(said("", &disk.bus));
    facts.extend(said("", &disk.model));
    facts.extend(said("serial ", &disk.serial));
    for (is, mark) in [
        (disk.removable, "removable"),
        (disk.is_external(), "external"),
        (disk.network, "in a storage network"),
        (disk.in_use, "in use"),
    ] {
        facts.extend(is.then(|| mark.to_owned()));
    }
    format!("{} ({})", disk.name, facts.join(", "))
}

/// A name and nothing else; what a person has typed is parsed.
impl From<&str> for DiskChoice {
    fn from(name: &str) -> Self {
        Self::Name { name: name.to_owned(), expect: Expect::default() }
    }
}

impl fmt::Display for DiskChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name, expect } => write!(f, "{name}{expect}"),
            Self::Auto { .. } => f.write_str("auto"),
            Self::ById(pattern) => write!(f, "by-id:{pattern}"),
        }
    }
}

/// As it stands behind the name on the command line.
impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.size.map(|size| size.to_string());
        let facts = [("size", &size), ("model", &self.model), ("serial", &self.serial)];
        let mut mark = ':';
        for (key, value) in facts {
            if let Some(value) = value {
                write!(f, "{mark}{key}={value}")?;
                mark = ',';
            }
        }
        Ok(())
    }
}
