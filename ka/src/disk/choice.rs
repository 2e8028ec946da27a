//! Selects the disk of a node that a run may erase.
//!
//! The kernel names disks in discovery order, so `sda` need not be the same disk at every boot or on every
//! node. A choice may say more than the name: size, model, serial number; or it may use the disk's own name
//! in /dev/disk/by-id. It either identifies exactly one disk, or it is an error that lists the disks.

mod parse;
#[cfg(test)]
mod tests;

use super::units::Decimal;
use crate::glob::fits_exactly;
use crate::inventory::Disk;
use serde::{Deserialize, Serialize};
use std::fmt;

pub use parse::{ParseChoiceError, parse_size};

/// The disk of a node to erase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskChoice {
    /// The disk with this kernel name, if it has the expected properties (`-p sda`, `-p sda:size=480G`).
    Name {
        /// The name, such as `sda` or `nvme0n1`.
        name: String,
        /// Properties that the disk must have.
        expect: Expect,
    },
    /// The only fixed disk, or the only one that resembles the golden disk (`-p auto`).
    Auto {
        /// The golden disk's bus, as in the inventory; empty if unknown.
        bus: String,
        /// The golden disk's size in bytes; 0 if unknown.
        size: u64,
        /// Excluded disks by name (`-X`). With exclusions, only a disk that resembles the golden one
        /// qualifies, because names may have changed since.
        except: Vec<String>,
    },
    /// The disk with a name in /dev/disk/by-id that matches the pattern, with `*`, `?` and `[…]` (`-p
    /// by-id:PATTERN`).
    ById(String),
}

/// Properties that a disk must have besides its name. Those not given are not checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    /// Its size in bytes. A disk sold with this size is within 5 % of it.
    pub size: Option<u64>,
    /// Text in its model.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
}

/// Why a choice does not identify exactly one usable disk. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// The disk does not exist.
    #[error("{choice}: this machine has no such disk; it has {present}")]
    Missing {
        /// The choice.
        choice: String,
        /// The disks of the machine.
        present: String,
    },
    /// Several disks match.
    #[error(
        "{choice}: several disks could be meant: {candidates}; say which with `sda:serial=…` or `by-id:…`"
    )]
    Several {
        /// The choice.
        choice: String,
        /// The matching disks.
        candidates: String,
    },
    /// The disk with this name has other properties.
    #[error("{disk}: expected {what} `{expected}`, found `{found}`: it is another disk, and stays as it is")]
    Deviates {
        /// The disk's name.
        disk: String,
        /// The property that differs: `size`, `model`, `serial`.
        what: &'static str,
        /// The value in the choice.
        expected: String,
        /// The disk's value.
        found: String,
    },
    /// Disks of this kind are never written.
    #[error("{disk}: {reason}")]
    Unfit {
        /// The disk with size and model.
        disk: String,
        /// The reason.
        reason: Unfit,
    },
    /// Two choices select the same disk.
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

/// Why a disk must not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Its medium is removable.
    #[error("it is a removable medium, and those are never erased")]
    Removable,
    /// Other machines may use it.
    #[error("it is in a storage network: such a disk is erased only if it is chosen with `by-id:…`")]
    Network,
    /// It is an external disk, which may belong to anyone.
    #[error(
        "it is an external disk ({0}): such a disk is erased only if it is chosen with `by-id:…`, `size=` or `serial=`"
    )]
    External(String),
    /// It is in use.
    #[error("it is in use: {0}")]
    InUse(String),
}

impl DiskChoice {
    /// The kernel name that it gives, if any.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name { name, .. } => Some(name),
            Self::Auto { .. } | Self::ById(_) => None,
        }
    }

    /// The disk of a machine that it selects.
    ///
    /// # Errors
    /// It selects no disk, several, or one that must not be written.
    pub fn find<'a>(&self, disks: &'a [Disk]) -> Result<&'a Disk, ChoiceError> {
        self.find_among(&disks.iter().collect::<Vec<_>>())
    }

    /// Like `find`, but the disk need not be writable: it may be in use, removable, or in a storage network.
    ///
    /// # Errors
    /// It selects no disk, or several.
    pub fn look_at<'a>(&self, disks: &'a [Disk]) -> Result<&'a Disk, ChoiceError> {
        self.meant_among(&disks.iter().collect::<Vec<_>>())
    }

    /// Whether the choice identifies the disk by more than a name that every machine has, and that matches
    /// this disk.
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

/// The disks that several choices select, in order, each a different disk. `auto` selects among the disks
/// that no other choice names.
///
/// # Errors
/// A choice does not identify exactly one disk, or two select the same one.
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

/// The machine's only fixed disk, or else those that resemble the golden one. Disks in use count: a machine
/// whose second disk is busy has two. With exclusions, only a disk that resembles the golden one qualifies.
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

/// A disk with several paths has the same by-id names on each of them: one path stands for all.
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
        Some(Unfit::InUse(disk.usage.clone().unwrap_or_else(|| "by an unknown user".to_owned())))
    } else {
        None
    }
}

/// Disks sold with the same size differ by less than this: 480 GB may be 480,103,981,056 bytes.
fn is_about(size: u64, nominal: u64) -> bool {
    size.abs_diff(nominal) <= nominal / 20
}

/// Disks described for a person.
fn list(disks: &[&Disk]) -> String {
    if disks.is_empty() {
        return "no disk".to_owned();
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

/// A bare name, without parsing; what a person has typed is parsed.
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

/// The part after the name on the command line.
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
