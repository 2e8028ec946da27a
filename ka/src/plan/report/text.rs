//! A report as a person reads it on a terminal.
//!
//! What a machine tells of itself is shown without control characters: it is not trusted with the terminal.

use super::{DiskReport, Makes, NewPartition, NewTable, Outcome, Report};
use crate::disk::units::Decimal;
use crate::inventory::{Content, Disk};
use std::fmt;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.disks.iter().try_for_each(|disk| disk.fmt(f))
    }
}

impl fmt::Display for DiskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.disk {
            Some(disk) => write!(f, "{}", OfDisk(disk))?,
            None => writeln!(f, "{}:", Printable(&self.choice))?,
        }
        match &self.outcome {
            Outcome::Refuse(reason) => writeln!(f, "  WILL NOT BE WRITTEN: {}", Printable(reason)),
            Outcome::Erase(table) => {
                writeln!(f, "  ALL OF THIS WILL BE ERASED. In its place:")?;
                table.fmt(f)
            }
        }
    }
}

impl fmt::Display for NewTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = if self.boot_code { ", with boot code" } else { "" };
        writeln!(f, "    partition table {}{code}", self.kind)?;
        let width = self.partitions.iter().map(|p| p.device.chars().count()).max().unwrap_or(0);
        for NewPartition { device, start, size, kind, type_name, name, makes, .. } in &self.partitions {
            let (start, size) = (Decimal(*start), Decimal(*size));
            write!(f, "    {device:width$}  {size:>8} at {start:>8}  ")?;
            write!(f, "type {}", Printable(type_name.as_deref().unwrap_or(kind)))?;
            if let Some(name) = name {
                write!(f, " \"{}\"", Printable(name))?;
            }
            writeln!(f, "  {makes}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Makes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing is made on it"),
            Self::Extended => f.write_str("holds the logical partitions"),
            Self::Raw { of, size } => {
                write!(f, "the bytes of {} ({})", Printable(of), Decimal(*size))
            }
            Self::FileSystem { kind, label, uuid, mount_points, used } => {
                write!(f, "{kind}")?;
                if let Some(label) = label {
                    write!(f, "  \"{}\"", Printable(label))?;
                }
                if let Some(uuid) = uuid {
                    write!(f, "  UUID {}", Printable(uuid))?;
                }
                for point in mount_points {
                    write!(f, "  {}", Printable(point))?;
                }
                if *used > 0 {
                    write!(f, "  gets {}", Decimal(*used))?;
                }
                Ok(())
            }
        }
    }
}

/// A disk and what is on it now.
pub struct OfDisk<'a>(pub &'a Disk);

impl fmt::Display for OfDisk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = self.0;
        write!(f, "{}: {}", Printable(&disk.name), Decimal(disk.size))?;
        for (mark, text) in [("", &disk.bus), ("", &disk.model), ("serial ", &disk.serial)] {
            if !text.is_empty() {
                write!(f, ", {mark}{}", Printable(text))?;
            }
        }
        write!(f, ", sectors of {} bytes, ", disk.sector_size)?;
        match &disk.table {
            Some(table) => write!(f, "partition table {}", Printable(table))?,
            None => f.write_str("no partition table")?,
        }
        let marks = [
            (disk.removable, "removable"),
            (disk.is_external(), "external"),
            (disk.network, "in a storage network"),
        ];
        for (is, mark) in marks {
            if is {
                write!(f, ", {mark}")?;
            }
        }
        if disk.in_use {
            write!(f, ", IN USE: {}", Printable(disk.usage.as_deref().unwrap_or("by whom is not known")))?;
        }
        writeln!(f)?;
        let width = disk.contents.iter().map(|c| c.device.chars().count()).max().unwrap_or(0);
        for Content { device, size, kind, label } in &disk.contents {
            let kind = kind.as_deref().unwrap_or("nothing known");
            write!(f, "    {:width$}  {:>8}  {}", Printable(device), Decimal(*size), Printable(kind))?;
            if let Some(label) = label {
                write!(f, "  \"{}\"", Printable(label))?;
            }
            writeln!(f)?;
        }
        if disk.contents.is_empty() {
            writeln!(f, "    {}", disk.nothing())?;
        }
        Ok(())
    }
}

/// Text without what could move the cursor, hide text, or forge a line.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>())
    }
}
