//! The golden file systems, without anything that is mounted on them.
//!
//! Each is seen through a detached mount (`open_tree(2)`): files below the golden node's mount points are
//! visible, nothing can be written through it, reading does not update access times, and the kernel removes
//! it with its last file descriptor, even if kactl is killed.

use super::chosen::{Chosen, Source};
use super::private_mount;
use ka_host::mountinfo::DeviceNumber;
use nix::errno::Errno;
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The chosen file systems, open until this is dropped.
#[derive(Debug)]
pub struct View {
    sources: Vec<Source>,
    mounts: Vec<OwnedFd>,
}

/// Why a file system cannot be viewed.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The kernel refuses.
    #[error("{mount_point}: cannot open a read-only view (root and Linux 5.2 are needed): {error}", mount_point = .mount_point.display())]
    Open {
        /// The mount point.
        mount_point: PathBuf,
        /// The kernel's error.
        error: io::Error,
    },
    /// Another file system is mounted there now.
    #[error("{mount_point}: another file system has been mounted there since the plan was made", mount_point = .mount_point.display())]
    Changed {
        /// The directory where it was visible.
        mount_point: PathBuf,
    },
}

impl View {
    /// Opens the chosen file systems.
    ///
    /// # Errors
    /// One of them cannot be opened, or is not the chosen one.
    pub fn open(chosen: &[Chosen]) -> Result<Self, ViewError> {
        let mut view = Self { sources: Vec::new(), mounts: Vec::new() };
        for fs in chosen {
            let failed = |source| ViewError::Open { mount_point: fs.mount_point.clone(), error: source };
            let mount = open_one(&fs.files.mounted_at).map_err(failed)?;
            // The trailing dot matters: the link itself is not a directory.
            let top = format!("/proc/{}/fd/{}", std::process::id(), mount.as_raw_fd());
            let directory = Path::new(&top).join(&fs.files.below).join(".");
            let found = rustix::fs::stat(&directory).map_err(|e| failed(e.into()))?;
            if DeviceNumber::of(found.st_dev) != fs.files.device {
                return Err(ViewError::Changed { mount_point: fs.mount_point.clone() });
            }
            view.sources.push(Source { directory, mount_point: fs.mount_point.clone() });
            view.mounts.push(mount);
        }
        Ok(view)
    }

    /// The sources to read. The directories are valid for all processes until the view is dropped.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }
}

fn open_one(mounted_at: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, mounted_at, flags)?;
    match ka_host::sys::mount::make_read_only(mount.as_fd()) {
        // Before Linux 5.12, a mount must be attached to be changed.
        Err(Errno::ENOSYS) => private_mount::read_only(mounted_at),
        other => other.map(|()| mount).map_err(io::Error::from),
    }
}
