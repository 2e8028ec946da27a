//! Excluded directories (`-x`), and the space that they save.

use super::PlanError;
use ka_host::mountinfo::DeviceNumber;
use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directories themselves, sorted and without symbolic links: the walk never sees a path that leads
/// through a link, so it would not exclude one.
pub(super) fn directories(wanted: &[PathBuf], own: &[PathBuf]) -> Result<Vec<PathBuf>, PlanError> {
    let mut all = Vec::new();
    for dir in wanted {
        let real = dir.canonicalize().ok().filter(|real| dir.is_absolute() && real.is_dir());
        all.push(real.ok_or_else(|| PlanError::NoDirectory(dir.clone()))?);
    }
    // A directory that does not exist yet has no other name.
    all.extend(own.iter().map(|dir| dir.canonicalize().unwrap_or_else(|_| dir.clone())));
    all.sort();
    all.dedup();
    Ok(all)
}

/// The largest file that btrfs by default stores inline, without a block of its own (btrfs(5), `max_inline`).
const INLINE: u64 = 2048;

/// The space in bytes that files below the excluded directories use on one file system.
pub(super) fn left_out(exclude: &[PathBuf], device: DeviceNumber) -> u64 {
    let outermost = exclude.iter().filter(|dir| !exclude.iter().any(|o| o != *dir && dir.starts_with(o)));
    // A file with several names may be copied under another name, so such files are not counted.
    let used = |file: &Metadata| if file.nlink() == 1 { file.blocks() * 512 } else { 0 };
    outermost.map(|dir| sum_below(dir, device, used)).sum()
}

/// The space in bytes that the files of one file system use below a directory.
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

/// The sum of `bytes` over the files of a tree. Unreadable files count as zero.
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
