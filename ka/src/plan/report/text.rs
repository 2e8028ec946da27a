//! The text form of a report, for a terminal.
//!
//! A machine's own texts could harm the terminal, so they are shown through [`crate::shown`].

use super::{DiskAction, DiskReport, Makes, NewGroup, NewLogicalVolume, NewPartition, NewTable, Report};
use crate::disk::units::Decimal;
use crate::inventory::{Content, Disk};
use crate::shown::{self, Field};
use std::fmt;

/// How many contents of a disk are shown.
const MAX_SHOWN: usize = 64;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.disks.iter().try_for_each(|disk| disk.fmt(f))?;
        self.groups.iter().try_for_each(|group| group.fmt(f))
    }
}

impl fmt::Display for NewGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.members.join(", ");
        writeln!(f, "volume group {}: {}, on {}", Field(&self.name), Decimal(self.size), Field(&members))?;
        let width = shown::width(self.volumes.iter().map(|volume| &volume.name));
        for NewLogicalVolume { name, size, layout, makes } in &self.volumes {
            writeln!(f, "    {:width$}  {:>8}  {}  {makes}", Field(name), Decimal(*size), Field(layout))?;
        }
        Ok(())
    }
}

impl fmt::Display for DiskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.disk {
            Some(disk) => write!(f, "{}", OfDisk(disk))?,
            None => writeln!(f, "{}:", Field(&self.choice))?,
        }
        match &self.outcome {
            DiskAction::Refuse(reason) => writeln!(f, "  WILL NOT BE WRITTEN: {}", shown::reason(reason)),
            DiskAction::Erase(table) => {
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
        let width = shown::width(self.partitions.iter().map(|p| &p.device));
        for NewPartition { device, start, size, kind, type_name, name, makes, .. } in &self.partitions {
            let (start, size) = (Decimal(*start), Decimal(*size));
            write!(f, "    {:width$}  {size:>8} at {start:>8}  ", Field(device))?;
            write!(f, "type {}", Field(type_name.as_deref().unwrap_or(kind)))?;
            if let Some(name) = name {
                write!(f, " \"{}\"", Field(name))?;
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
            Self::Member { group } => write!(f, "part of the volume group {}", Field(group)),
            Self::Raw { of, size } => {
                write!(f, "the bytes of {} ({})", Field(of), Decimal(*size))
            }
            Self::FileSystem { kind, label, uuid, mount_points, used } => {
                write!(f, "{kind}")?;
                if let Some(label) = label {
                    write!(f, "  \"{}\"", Field(label))?;
                }
                if let Some(uuid) = uuid {
                    write!(f, "  UUID {}", Field(uuid))?;
                }
                for point in mount_points {
                    write!(f, "  {}", Field(point))?;
                }
                if *used > 0 {
                    write!(f, "  gets {}", Decimal(*used))?;
                }
                Ok(())
            }
        }
    }
}

/// A disk and its current contents.
pub struct OfDisk<'a>(pub &'a Disk);

impl fmt::Display for OfDisk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = self.0;
        write!(f, "{}: {}", Field(&disk.name), Decimal(disk.size))?;
        for (mark, text) in [("", &disk.bus), ("", &disk.model), ("serial ", &disk.serial)] {
            if !text.is_empty() {
                write!(f, ", {mark}{}", Field(text))?;
            }
        }
        write!(f, ", sectors of {} bytes, ", disk.sector_size)?;
        match &disk.table {
            Some(table) => write!(f, "partition table {}", Field(table))?,
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
            write!(f, ", IN USE: {}", Field(disk.usage.as_deref().unwrap_or("by an unknown user")))?;
        }
        writeln!(f)?;
        let width = shown::width(disk.contents.iter().map(|c| &c.device));
        for Content { device, size, kind, label } in disk.contents.iter().take(MAX_SHOWN) {
            let kind = kind.as_deref().unwrap_or("nothing known");
            write!(f, "    {:width$}  {:>8}  {}", Field(device), Decimal(*size), Field(kind))?;
            if let Some(label) = label {
                write!(f, "  \"{}\"", Field(label))?;
            }
            writeln!(f)?;
        }
        match disk.contents.len() {
            0 => writeln!(f, "    {}", disk.nothing()),
            all if all > MAX_SHOWN => writeln!(f, "    and {} more", all - MAX_SHOWN),
            _ => Ok(()),
        }
    }
}
