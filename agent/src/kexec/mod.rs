//! Boots directly into the new system: its kernel is loaded from the new disk, and PID 1 starts it instead of
//! rebooting.
//!
//! This saves the minutes that a server's firmware takes. The boot loader is bypassed, so what it would have
//! started is read from its configuration.

mod entry;

use std::ffi::{CString, NulError};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

pub use entry::{Entry, default_entry};

use crate::notes;
use ka::notes::NoteKind;
use ka_host::sys;

/// Why the new system's kernel cannot be started directly. The machine can still reboot into it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KexecError {
    /// The boot loader's configuration names no existing kernel.
    #[error("cannot determine which kernel to start from {}", list(.0))]
    NoEntry(Vec<PathBuf>),
    /// The default entry's files are in none of the places that the boot loader could mean.
    #[error("the boot loader starts {kernel} by default{}, and not all of that is there", behind(.initrd.as_deref()))]
    NotThere {
        /// The kernel's path in the configuration.
        kernel: String,
        /// The initrd.
        initrd: Option<String>,
    },
    /// A file cannot be read.
    #[error("{path}: {error}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        error: io::Error,
    },
    /// The command line cannot be passed on.
    #[error("the kernel's command line has a zero byte")]
    CommandLine(#[from] NulError),
    /// The running kernel refuses.
    #[error("the running kernel does not take {kernel} (kexec_file_load): {error}", kernel = .kernel.display())]
    Load {
        /// The kernel to start.
        kernel: PathBuf,
        /// The running kernel's error.
        error: Errno,
    },
}

/// Loads what the new system below `root` boots by default. Afterwards everything is in memory, and the file
/// systems may be unmounted.
///
/// # Errors
/// [`KexecError`]; nothing is loaded.
pub fn load(root: &Path) -> Result<(), KexecError> {
    let mut doubts = Vec::new();
    let entry = default_entry(root, &mut doubts);
    // The kernel may not be the one that the boot loader would start: the operator must know.
    for doubt in doubts {
        notes::warn(NoteKind::Finish, format_args!("kexec: {doubt}"));
    }
    let entry = entry?;
    let open = |path: &Path| {
        File::open(path).map_err(|source| KexecError::File { path: path.to_owned(), error: source })
    };
    let kernel = open(&entry.kernel)?;
    let initrd = entry.initrd.as_deref().map(open).transpose()?;
    let command_line = CString::new(entry.command_line.as_str())?;
    sys::kexec::load(kernel.as_fd(), initrd.as_ref().map(AsFd::as_fd), &command_line)
        .map_err(|source| KexecError::Load { kernel: entry.kernel.clone(), error: source })?;
    log::info!("{} is loaded, to start with: {}", entry.kernel.display(), entry.command_line);
    Ok(())
}

fn behind(initrd: Option<&str>) -> String {
    initrd.map_or_else(String::new, |initrd| format!(" with {initrd}"))
}

fn list(paths: &[PathBuf]) -> String {
    let texts: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    texts.join(" or ")
}
