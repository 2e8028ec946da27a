//! Drivers for the devices of this machine, found by what the devices say of themselves.
//!
//! Every device has a modalias, and every driver the patterns of those that it can drive. Loading a driver for
//! a bus brings more devices, so this looks again until nothing new appears. Which drivers there are is
//! decided by whoever made the image.

mod events;
mod index;
mod insert;
mod pattern;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use events::Events;
use index::{Index, Step};

/// How long no new device may appear before all that are there are taken to be known, when it is about
/// network cards. A USB hub takes some 100 ms for each of its ports.
pub const QUIET: Duration = Duration::from_millis(500);

/// The same when it is about disks, which take seconds to spin up.
pub const QUIET_DISKS: Duration = Duration::from_secs(3);

type Insert = Box<dyn FnMut(&Path, &CStr) -> io::Result<()> + Send>;

/// The modules of the running kernel, and which of them are loaded.
pub struct Modules {
    index: Index,
    sys: PathBuf,
    insert: Insert,
    loaded: BTreeSet<String>,
    /// Refused by the kernel. Sixty-four processors must not each ask for the same missing module.
    failed: BTreeSet<String>,
    /// Devices that were looked at.
    seen: BTreeSet<PathBuf>,
}

/// A module that was loaded, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The module's name, as lsmod shows it.
    pub module: String,
    /// The device that asked for it, or for a module that needs it; a path below `/sys/devices`.
    pub device: PathBuf,
}

/// Why a module is not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// The lists of depmod cannot be read.
    #[error("no list of kernel modules: {0}")]
    Index(io::Error),
    /// No such module.
    #[error("module {0}: not among this kernel's modules")]
    Unknown(String),
    /// The kernel refused it.
    #[error("module {module} ({}): {error}", path.display())]
    Refused {
        /// The module.
        module: String,
        /// Its file.
        path: PathBuf,
        /// What the kernel, or reading the file, said.
        error: io::Error,
    },
    /// One that it needs was refused.
    #[error("module {module}: needs {needed}, which is not loaded")]
    Needs {
        /// The module.
        module: String,
        /// What it needs.
        needed: String,
    },
}

impl ModuleError {
    fn is_no_device(&self) -> bool {
        let no_device = rustix::io::Errno::NODEV.raw_os_error();
        matches!(self, Self::Refused { error, .. } if error.raw_os_error() == Some(no_device))
    }
}

impl Modules {
    /// Reads `lib/modules/RELEASE` and modprobe.d below `root`, for the running kernel. `command_line` may blacklist
    /// modules (`modprobe.blacklist=a,b`) and give them parameters (`e1000.copybreak=0`), as modprobe(8) has it.
    ///
    /// # Errors
    /// [`ModuleError::Index`] when there is no `modules.dep`, or a list cannot be read.
    pub fn open(root: &Path, command_line: &str) -> Result<Self, ModuleError> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let mut index = Index::read(root, &release).map_err(ModuleError::Index)?;
        index.read_command_line(command_line);
        Ok(Self::new(index, PathBuf::from("/sys"), Box::new(insert::insert)))
    }

    fn new(index: Index, sys: PathBuf, insert: Insert) -> Self {
        let (loaded, failed, seen) = Default::default();
        Self { index, sys, insert, loaded, failed, seen }
    }

    /// Loads what the machine's devices ask for, until no new device has appeared for `quiet`. A module that cannot be loaded is
    /// logged and left out. Devices that an earlier call has looked at are not looked at again.
    pub fn load_for_devices(&mut self, quiet: Duration) -> Vec<Loaded> {
        let events = Events::open()
            .inspect_err(|e| log::warn!("no events of new devices: {e}; a slow device may be missed"))
            .ok();
        let mut loaded = Vec::new();
        loop {
            let more = self.look_once();
            let again = !more.is_empty();
            loaded.extend(more);
            match events.as_ref().map(|events| events.wait(quiet)) {
                Some(Ok(true)) => {}
                None if again => {}
                Some(Err(e)) => {
                    log::warn!("events of new devices: {e}; a slow device may be missed");
                    return loaded;
                }
                Some(Ok(false)) | None => return loaded,
            }
        }
    }

    /// Loads one module by name, with what it needs. One that is loaded or built in is well.
    ///
    /// # Errors
    /// [`ModuleError`] says what is missing or who refused.
    pub fn load(&mut self, name: &str) -> Result<(), ModuleError> {
        if self.index.is_builtin(name) {
            return Ok(());
        }
        if !self.index.knows(name) {
            return Err(ModuleError::Unknown(name.to_owned()));
        }
        self.failed.clear();
        self.load_all(name).map(drop)
    }

    /// One look at all devices.
    fn look_once(&mut self) -> Vec<Loaded> {
        let mut devices = Vec::new();
        modaliases(&self.sys.join("devices"), &mut devices);
        let mut loaded = Vec::new();
        for (device, modalias) in devices {
            if !self.seen.insert(device.clone()) {
                continue;
            }
            let device = device.strip_prefix(self.sys.join("devices")).unwrap_or(&device).to_owned();
            log::debug!("device {}: {modalias}", device.display());
            for module in self.index.for_device(&modalias) {
                if self.failed.contains(&module) {
                    continue;
                }
                match self.load_all(&module) {
                    Ok(modules) => loaded.extend(modules.into_iter().map(|module| {
                        log::info!("module {module} for {}", device.display());
                        Loaded { module, device: device.clone() }
                    })),
                    // A driver that looked closer than its patterns do. Processors' ones do this everywhere.
                    Err(e) if e.is_no_device() => log::info!("{e}"),
                    Err(e) => log::warn!("{e}; {} may have no driver", device.display()),
                }
            }
        }
        loaded
    }

    /// Loads a module and what it needs; gives back those that were not loaded before.
    fn load_all(&mut self, name: &str) -> Result<Vec<String>, ModuleError> {
        let target = index::normal(name);
        let mut fresh = Vec::new();
        let mut outcome = Ok(());
        for step in self.index.order(&target) {
            if self.loaded.contains(&step.name) {
                continue;
            }
            match self.load_one(&step) {
                Ok(true) => fresh.push(step.name),
                Ok(false) => {}
                Err(e) if step.name == target => outcome = Err(e),
                // The target's own error follows if it needs this one; a soft dependency is only told.
                Err(e) => log::warn!("{e}"),
            }
        }
        outcome.map(|()| fresh)
    }

    /// True if it was loaded, false if it was there already.
    fn load_one(&mut self, step: &Step) -> Result<bool, ModuleError> {
        if let Some(needed) = step.needs.iter().find(|needed| self.failed.contains(*needed)) {
            self.failed.insert(step.name.clone());
            return Err(ModuleError::Needs { module: step.name.clone(), needed: needed.clone() });
        }
        let there = self.sys.join("module").join(&step.name).join("initstate").exists();
        let outcome = if there {
            Ok(false)
        } else {
            let options = CString::new(step.options.as_str()).map_err(io::Error::from);
            match options.and_then(|options| (self.insert)(&step.path, &options)) {
                Ok(()) => Ok(true),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error),
            }
        };
        match outcome {
            Ok(fresh) => {
                self.loaded.insert(step.name.clone());
                Ok(fresh)
            }
            Err(error) => {
                self.failed.insert(step.name.clone());
                Err(ModuleError::Refused { module: step.name.clone(), path: step.path.clone(), error })
            }
        }
    }
}

/// Every device below `folder` that has a modalias. Devices come and go while this reads, so what cannot be
/// read is not there.
fn modaliases(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            modaliases(&entry.path(), found);
        } else if kind.is_file()
            && entry.file_name() == "modalias"
            && let Ok(text) = fs::read_to_string(entry.path())
            && !text.trim().is_empty()
        {
            found.push((folder.to_owned(), text.trim().to_owned()));
        }
    }
}
