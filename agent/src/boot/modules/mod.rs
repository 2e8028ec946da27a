//! Loads drivers for this machine's devices, found by their modaliases.
//!
//! Every device has a modalias, and every driver the patterns of those that it can drive. A bus driver makes
//! more devices appear, so this repeats until no new ones do. Which drivers are available is decided when the
//! image is made.

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

/// How long no new device may appear before the search for network cards ends. A USB hub takes about 100 ms
/// for each of its ports.
pub const QUIET: Duration = Duration::from_millis(500);

/// The same for disks, which take seconds to spin up.
pub const QUIET_DISKS: Duration = Duration::from_secs(3);

type Insert = Box<dyn FnMut(&Path, &CStr) -> io::Result<()> + Send>;

/// The running kernel's modules, and which of them are loaded.
pub struct Modules {
    index: Index,
    sys: PathBuf,
    insert: Insert,
    loaded: BTreeSet<String>,
    /// Refused by the kernel: sixty-four processors must not each ask for the same missing module.
    failed: BTreeSet<String>,
    /// Devices already handled.
    seen: BTreeSet<PathBuf>,
}

/// A loaded module, and why it was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The module's name, as lsmod shows it.
    pub module: String,
    /// The device that needs it, or needs a module that depends on it; a path below `/sys/devices`.
    pub device: PathBuf,
}

/// Why a module is not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// depmod's lists cannot be read.
    #[error("no list of kernel modules: {0}")]
    Index(io::Error),
    /// The module does not exist.
    #[error("module {0}: not among this kernel's modules")]
    Unknown(String),
    /// The kernel refused it.
    #[error("module {module} ({}): {error}", path.display())]
    Refused {
        /// The module.
        module: String,
        /// Its file.
        path: PathBuf,
        /// The error of the kernel, or of reading the file.
        error: io::Error,
    },
    /// A dependency was refused.
    #[error("module {module}: needs {needed}, which is not loaded")]
    Needs {
        /// The module.
        module: String,
        /// The dependency.
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
    /// Reads `lib/modules/RELEASE` and modprobe.d below `root` for the running kernel. `command_line` may
    /// blacklist modules (`modprobe.blacklist=a,b`) and set parameters (`e1000.copybreak=0`), as in
    /// modprobe(8).
    ///
    /// # Errors
    /// [`ModuleError::Index`] if `modules.dep` is missing, or a list cannot be read.
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

    /// Loads the modules for the machine's devices, until no new device has appeared for `quiet`. A module
    /// that cannot be loaded is logged and skipped. Devices handled by an earlier call are not handled again.
    pub fn load_for_devices(&mut self, quiet: Duration) -> Vec<Loaded> {
        let events = Events::open()
            .inspect_err(|e| log::warn!("cannot receive device events: {e}; a slow device may be missed"))
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
                    log::warn!("cannot receive device events: {e}; a slow device may be missed");
                    return loaded;
                }
                Some(Ok(false)) | None => return loaded,
            }
        }
    }

    /// Loads one module by name, with its dependencies. It succeeds if the module is already loaded or built
    /// in.
    ///
    /// # Errors
    /// [`ModuleError`] says what is missing or was refused.
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

    /// One pass over all devices.
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
                    // A driver that rejected the device on closer inspection. Processor drivers do this
                    // everywhere.
                    Err(e) if e.is_no_device() => log::info!("{e}"),
                    Err(e) => log::warn!("{e}; {} may have no driver", device.display()),
                }
            }
        }
        loaded
    }

    /// Loads a module and its dependencies; returns those that were not loaded before.
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
                // If the target needs this one, the target's own error follows; a failed soft dependency is
                // only logged.
                Err(e) => log::warn!("{e}"),
            }
        }
        outcome.map(|()| fresh)
    }

    /// True if it was loaded now, false if it already was.
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

/// Every device below `folder` with a modalias. Devices may come and go during the scan, so unreadable ones
/// are skipped.
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
