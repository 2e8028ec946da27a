//! What is left out (`-x`), and the room that it needs not.

use super::PlanError;
use ka_agent::disk::mountinfo::DeviceNumber;
use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directories themselves, sorted: the walk over the files meets no path that leads through a symbolic
/// link, and would leave out nothing for it.
pub(super) fn directories(wanted: &[PathBuf], own: &[PathBuf]) -> Result<Vec<PathBuf>, PlanError> {
    let mut all = Vec::new();
    for dir in wanted {
        let real = dir.canonicalize().ok().filter(|real| dir.is_absolute() && real.is_dir());
        all.push(real.ok_or_else(|| PlanError::NoDirectory(dir.clone()))?);
    }
    // One that is not there yet has no other name.
    all.extend(own.iter().map(|dir| dir.canonicalize().unwrap_or_else(|_| dir.clone())));
    all.sort();
    all.dedup();
    Ok(all)
}

/// Bytes that files below the excluded directories use on one file system.
pub(super) fn left_out(exclude: &[PathBuf], device: DeviceNumber) -> u64 {
    let outermost = exclude.iter().filter(|dir| !exclude.iter().any(|o| o != *dir && dir.starts_with(o)));
    // Another name of a file may be copied, so those with several are not left out for sure.
    outermost.map(|dir| used_below(dir, device, |_| false)).sum()
}

/// Bytes that the files of one file system below a directory use.
pub(super) fn used_in(dir: &Path, device: DeviceNumber) -> u64 {
    let mut seen = HashSet::new();
    used_below(dir, device, |inode| seen.insert(inode))
}

/// Bytes that a tree's files use; one with several names counts if `counts` says so of its inode. What can't
/// be read counts as nothing.
fn used_below(dir: &Path, device: DeviceNumber, mut counts: impl FnMut(u64) -> bool) -> u64 {
    let mut bytes = 0;
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if DeviceNumber::of(metadata.dev()) != device {
                continue;
            }
            if metadata.is_dir() {
                waiting.push(entry.path());
            } else if metadata.nlink() == 1 || counts(metadata.ino()) {
                bytes += metadata.blocks() * 512;
            }
        }
    }
    bytes
}
