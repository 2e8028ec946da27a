//! The users of a disk or one of its partitions, as far as this process can see: mounts in all mount
//! namespaces, swap, and devices built on it. An exclusive open detects what this cannot see.

use super::loops::{self, LoopDevice};
use super::mountinfo::{self, DeviceNumber};
use super::namespaces;
use super::sysfs;
use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A user of a disk or one of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usage {
    /// It is mounted.
    Mounted {
        /// The kernel's name of the disk or partition.
        device: String,
        /// The first mount point.
        at: PathBuf,
    },
    /// It is mounted in another mount namespace.
    Elsewhere {
        /// The kernel's name of the disk or partition.
        device: String,
        /// The first mount point in that namespace.
        at: PathBuf,
        /// One of the namespace's processes.
        process: String,
    },
    /// It backs a loop device.
    Backing {
        /// The kernel's name of the disk or partition.
        device: String,
        /// The loop device.
        by: String,
    },
    /// It is a loop device, and another loop device presents the same bytes.
    Shared {
        /// The kernel's name of the disk.
        device: String,
        /// The other loop device.
        with: String,
        /// Their file.
        file: String,
    },
    /// It is a loop device, and the device that backs it is in use.
    Below {
        /// The kernel's name of the disk.
        device: String,
        /// The user of the device below.
        usage: Box<Usage>,
    },
    /// It is one of several devices of a mounted file system.
    Member {
        /// The kernel's name of the disk or partition.
        device: String,
        /// The file system's UUID.
        uuid: String,
    },
    /// It is active swap space.
    Swap {
        /// The kernel's name of the disk or partition.
        device: String,
    },
    /// Another device is built on it: LVM, RAID, LUKS, multipath.
    Held {
        /// The kernel's name of the disk or partition.
        device: String,
        /// The kernel's name of the other device.
        by: String,
    },
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted { device, at } => write!(f, "{device} is mounted at {}", at.display()),
            Self::Elsewhere { device, at, process } => {
                write!(f, "{device} is mounted at {} in the mount namespace of {process}", at.display())
            }
            Self::Backing { device, by } => write!(f, "{device} backs the loop device {by}"),
            Self::Shared { device, with, file } => {
                write!(f, "{device} and {with} are loop devices of the same file, {file}")
            }
            Self::Below { device, usage } => write!(f, "the device that backs {device} is in use: {usage}"),
            Self::Member { device, uuid } => write!(f, "{device} is part of the mounted btrfs {uuid}"),
            Self::Swap { device } => write!(f, "{device} is used as swap"),
            Self::Held { device, by } => write!(f, "{device} is part of {by}"),
        }
    }
}

/// Everything in use on a machine, read once for all disks.
#[derive(Debug)]
pub struct Users {
    sys: PathBuf,
    /// The mount points by device number, and by the mounted device, since btrfs gives its files a device
    /// number of their own.
    mounts: Vec<(DeviceNumber, Device, PathBuf)>,
    /// The same for other mount namespaces.
    elsewhere: Vec<(DeviceNumber, Device, PathBuf, String)>,
    loops: Vec<LoopDevice>,
    swaps: HashSet<Device>,
    /// Name and file system of the devices of every mounted btrfs: mountinfo names only one of them.
    members: Vec<(String, String)>,
}

/// A device by its path: its number if it has a node, else its name in /dev.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Device {
    Number(DeviceNumber),
    Name(String),
    None,
}

impl Users {
    /// Inspects this machine.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn of_this_machine() -> io::Result<Self> {
        Self::read(Path::new("/sys"), Path::new("/proc"))
    }

    /// Inspects the machine that these folders describe.
    ///
    /// # Errors
    /// They have no mount list, or one of its lines is malformed.
    pub fn read(sys: &Path, proc: &Path) -> io::Result<Self> {
        let mounts = mountinfo::read_from(&proc.join("self/mountinfo"))?;
        let swaps = match fs::read_to_string(proc.join("swaps")) {
            // A kernel without swap lacks this file.
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        let swaps = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        let namespaces = namespaces::others(proc).into_iter();
        let elsewhere = namespaces.flat_map(|namespace| {
            let process = namespace.process;
            let mounts = namespace.mounts.into_iter();
            mounts.map(move |m| (m.device, Device::at(&m.source), m.mount_point, process.clone()))
        });
        Ok(Self {
            sys: sys.to_owned(),
            elsewhere: elsewhere.collect(),
            loops: loops::all(sys)?,
            mounts: mounts.into_iter().map(|m| (m.device, Device::at(&m.source), m.mount_point)).collect(),
            swaps: swaps.map(|path| Device::at(Path::new(path))).collect(),
            members: members(&sys.join("fs/btrfs")),
        })
    }

    /// The user of the disk or one of its partitions.
    ///
    /// # Errors
    /// The disk does not exist.
    pub fn of(&self, disk: &str) -> io::Result<Option<Usage>> {
        let folder = self.sys.join("block").join(disk);
        let mut devices = vec![(folder.clone(), disk.to_owned())];
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.path().join("partition").exists() {
                devices.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
            }
        }
        devices.sort_by(|(_, a), (_, b)| (a.len(), a).cmp(&(b.len(), b)));
        for (folder, name) in devices {
            if let Some(usage) = self.of_device(&folder, name)? {
                return Ok(Some(usage));
            }
        }
        self.of_loop(disk)
    }

    /// The user of this one disk or partition.
    ///
    /// # Errors
    /// The device does not exist.
    pub fn of_one(&self, device: &str) -> io::Result<Option<Usage>> {
        self.of_device(&self.sys.join("class/block").join(device), device.to_owned())
    }

    /// The user of a loop device's backing file or device.
    fn of_loop(&self, disk: &str) -> io::Result<Option<Usage>> {
        let Some(own) = self.loops.iter().find(|other| other.name == disk) else { return Ok(None) };
        let device = disk.to_owned();
        if let Some(other) = self.loops.iter().find(|other| other.name != disk && own.overlaps(other)) {
            let (with, file) = (other.name.clone(), own.file.clone());
            return Ok(Some(Usage::Shared { device, with, file }));
        }
        if own.status.of_device == 0 {
            return Ok(None);
        }
        let below = sysfs::name_of(DeviceNumber::of(own.status.of_device))?;
        let usage =
            self.of_one(&below)?.filter(|usage| !matches!(usage, Usage::Backing { by, .. } if by == disk));
        Ok(usage.map(|usage| Usage::Below { device, usage: Box::new(usage) }))
    }

    fn of_device(&self, folder: &Path, device: String) -> io::Result<Option<Usage>> {
        let text = fs::read_to_string(folder.join("dev"))?;
        let number = DeviceNumber::parse(&text).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{device}: dev is `{text}`"))
        })?;
        let is_it = |other: &Device| match other {
            Device::Number(other) => *other == number,
            Device::Name(name) => *name == device.replace('!', "/"),
            Device::None => false,
        };
        if let Some((.., at)) = self.mounts.iter().find(|(n, source, _)| *n == number || is_it(source)) {
            return Ok(Some(Usage::Mounted { at: at.clone(), device }));
        }
        let elsewhere = self.elsewhere.iter().find(|(n, source, ..)| *n == number || is_it(source));
        if let Some((.., at, process)) = elsewhere {
            return Ok(Some(Usage::Elsewhere { at: at.clone(), process: process.clone(), device }));
        }
        let made_of_it = |other: &&LoopDevice| {
            other.status.of_device != 0 && DeviceNumber::of(other.status.of_device) == number
        };
        if let Some(by) = self.loops.iter().find(made_of_it) {
            return Ok(Some(Usage::Backing { by: by.name.clone(), device }));
        }
        if let Some((_, uuid)) = self.members.iter().find(|(name, _)| *name == device) {
            return Ok(Some(Usage::Member { uuid: uuid.clone(), device }));
        }
        if self.swaps.iter().any(is_it) {
            return Ok(Some(Usage::Swap { device }));
        }
        // Every disk and partition of a kernel has this folder; a test tree may lack it.
        let holders = match fs::read_dir(folder.join("holders")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut names = holders.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let first: Option<io::Result<String>> = names.next();
        Ok(first.transpose()?.map(|by| Usage::Held { device, by }))
    }
}

impl Device {
    fn at(path: &Path) -> Self {
        let Ok(name) = path.strip_prefix("/dev") else { return Self::None };
        match sysfs::block_number(path) {
            Some(number) => Self::Number(number),
            None => Self::Name(name.to_string_lossy().into_owned()),
        }
    }
}

/// Names and UUIDs: `/sys/fs/btrfs/UUID/devices/sda2`. Only mounted file systems are listed.
fn members(folder: &Path) -> Vec<(String, String)> {
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let mut members = Vec::new();
    for uuid in names(folder) {
        for device in names(&folder.join(&uuid).join("devices")) {
            members.push((device, uuid.clone()));
        }
    }
    members
}
