//! Restores modification times where the content did not change.
//!
//! The boot loader's tools rewrite hundreds of files with the same content, and every file that is created or
//! removed changes its directory. A clone with new times on half of `/boot` cannot be compared with its
//! golden node, and a backup would treat it as changed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ka::sha256::Sha256;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::finish::error::Cause;

/// Directories in which tools rewrite files.
const REWRITTEN: [&str; 2] = ["boot", "etc"];

/// The times of a tree before it was changed.
pub(in crate::finish) struct Times {
    directories: BTreeMap<PathBuf, Timespec>,
    files: BTreeMap<PathBuf, (Timespec, [u8; 32])>,
}

impl Times {
    /// Records the times of all directories below `root`, and of the files that tools rewrite.
    pub(in crate::finish) fn record(root: &Path) -> Result<Self, Cause> {
        let mut times = Self { directories: BTreeMap::new(), files: BTreeMap::new() };
        let rewritten = REWRITTEN.map(|name| root.join(name));
        let mut waiting = vec![root.to_owned()];
        while let Some(directory) = waiting.pop() {
            let failed = |e| Cause::file("list", &directory, e);
            let with_files = rewritten.iter().any(|top| directory.starts_with(top));
            for entry in fs::read_dir(&directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let kind = entry.file_type().map_err(failed)?;
                let path = entry.path();
                if kind.is_dir() {
                    waiting.push(path);
                } else if kind.is_file() && with_files {
                    let noted = mtime(&path).and_then(|time| Ok((time, sum(&path)?)));
                    let noted = noted.map_err(|e| Cause::file("read", &path, e))?;
                    times.files.insert(path, noted);
                }
            }
            let time = mtime(&directory).map_err(|e| Cause::file("look at", &directory, e))?;
            times.directories.insert(directory, time);
        }
        Ok(times)
    }

    /// Restores the times of files with unchanged content, and of all directories that still exist.
    pub(in crate::finish) fn restore(&self) -> Result<(), Cause> {
        let mut kept = 0u32;
        for (path, (before, old_sum)) in &self.files {
            let failed = |e| Cause::file("read", path, e);
            match mtime(path) {
                Ok(now) if now == *before => {}
                // A site's hook may have replaced the file: a link would lead out of the root, a pipe
                // nowhere.
                Ok(_) if !is_file(path).map_err(failed)? => {}
                Ok(_) if sum(path).map_err(failed)? == *old_sum => {
                    set_mtime(path, *before)?;
                    kept += 1;
                }
                Ok(_) => log::info!("{} is this node's own now", path.display()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(failed(e)),
            }
        }
        for (path, before) in &self.directories {
            match mtime(path) {
                Ok(now) if now == *before => {}
                Ok(_) => set_mtime(path, *before)?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Cause::file("look at", path, e)),
            }
        }
        log::info!("{kept} files were rewritten with the same content and keep their times");
        Ok(())
    }
}

fn is_file(path: &Path) -> io::Result<bool> {
    Ok(fs::symlink_metadata(path)?.is_file())
}

fn mtime(path: &Path) -> io::Result<Timespec> {
    let metadata = fs::symlink_metadata(path)?;
    Ok(Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() })
}

fn set_mtime(path: &Path, time: Timespec) -> Result<(), Cause> {
    let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let times = Timestamps { last_access: omit, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| Cause::file("set the time of", path, e.into()))
}

fn sum(path: &Path) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0u8; 256 << 10];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_the_same_bytes_has_the_same_time() {
        let root = tempfile::tempdir().unwrap();
        let grub = root.path().join("boot/grub");
        fs::create_dir_all(&grub).unwrap();
        let [same, changed, gone, new] = ["same", "changed", "gone", "new"].map(|name| grub.join(name));
        let past = Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
        for path in [&same, &changed, &gone] {
            fs::write(path, "golden").unwrap();
            set_mtime(path, past).unwrap();
        }
        set_mtime(&grub, past).unwrap();
        let times = Times::record(root.path()).unwrap();

        fs::remove_file(&same).unwrap();
        fs::write(&same, "golden").unwrap();
        fs::write(&changed, "clone's").unwrap();
        fs::remove_file(&gone).unwrap();
        fs::write(&new, "golden").unwrap();
        times.restore().unwrap();

        assert_eq!(mtime(&same).unwrap(), past);
        assert_eq!(mtime(&grub).unwrap(), past);
        assert_ne!(mtime(&changed).unwrap(), past);
        assert_ne!(mtime(&new).unwrap(), past);
    }
}
