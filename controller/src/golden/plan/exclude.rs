//! What is left out (`-x`), and the room that it needs not.

use super::PlanError;
use ka_host::mountinfo::DeviceNumber;
use std::collections::HashSet;
use std::fs::Metadata;
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

/// The largest file that btrfs keeps beside its name by default, where it takes no block (btrfs(5), `max_inline`).
const INLINE: u64 = 2048;

/// Bytes that files below the excluded directories use on one file system.
pub(super) fn left_out(exclude: &[PathBuf], device: DeviceNumber) -> u64 {
    let outermost = exclude.iter().filter(|dir| !exclude.iter().any(|o| o != *dir && dir.starts_with(o)));
    // Another name of a file may be copied, so those with several are not left out for sure.
    let used = |file: &Metadata| if file.nlink() == 1 { file.blocks() * 512 } else { 0 };
    outermost.map(|dir| sum_below(dir, device, used)).sum()
}

/// Bytes that the files of one file system below a directory use.
pub(super) fn used_in(dir: &Path, device: DeviceNumber) -> u64 {
    let mut seen = HashSet::new();
    sum_below(dir, device, |file| {
        let is_small = file.len() <= INLINE;
        match file.blocks() * 512 {
            _ if file.nlink() > 1 && !seen.insert(file.ino()) => 0,
            bytes if is_small => bytes.min(file.len()),
            bytes => bytes,
        }
    })
}

/// The sum of what `bytes` says of each file in a tree. What cannot be read counts as nothing.
fn sum_below(dir: &Path, device: DeviceNumber, mut bytes: impl FnMut(&Metadata) -> u64) -> u64 {
    let mut sum = 0;
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if DeviceNumber::of(metadata.dev()) != device {
                continue;
            }
            if metadata.is_dir() {
                waiting.push(entry.path());
            } else {
                sum += bytes(&metadata);
            }
        }
    }
    sum
}
