//! The golden node's files as a stream.
//!
//! A source is one file system, preferably seen through a private bind mount so that nothing is mounted over
//! it. It is walked in an order that depends only on names (a directory before its contents, by the bytes of
//! the names), so that the same tree yields the same bytes.
//!
//! The machine is live while it is read. A file that changes, shrinks, grows, vanishes or becomes something
//! else is noted, and the stream stays valid: a file has the size that was announced for it, with zeros for
//! missing data. A file that *cannot* be read (a bad disk, a missing permission) ends the packing, because an
//! incomplete clone would pass for a complete one.

mod ahead;
mod file;
mod mounts;
mod names;
mod raw;
mod swaps;
mod walk;

use std::collections::HashSet;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ka::archive::{ArchiveError, Encoder, Notes, Output, Progress, Roomy};
use rustix::io::Errno;

use super::chosen::{RawSource, Source};
use super::quiet::Busy;
use swaps::FileId;

/// The amount that is collected before `out` is written.
const BUFFER: usize = 1 << 20;

/// What to leave out, and the receiver of progress reports.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Absolute paths as seen from the clone's root. For a directory, its own entry is kept, so that it is
    /// recreated empty with its mode, owner and times; anything else is left out.
    pub exclude: Vec<PathBuf>,
    /// Receives progress reports.
    pub progress: Option<Arc<Progress>>,
    /// Partitions to copy byte by byte, after all files.
    pub partitions: Vec<RawSource>,
    /// Walks other mounts and subvolumes, too; otherwise they are left out and noted.
    pub cross: bool,
    /// Notes and leaves out files that cannot be opened; otherwise they are an error.
    pub tolerant: bool,
}

/// The result of packing.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The number of entries in the archive.
    pub entries: u64,
    /// The size of the archive in bytes.
    pub bytes: u64,
    /// Notes for the operator: files that changed while they were read, and what was left out.
    pub notes: Notes,
}

/// Why there is no complete archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A file could not be read.
    #[error("cannot {action} {}: {}", path.display(), ka_host::words::of(*errno))]
    Source {
        /// The operation.
        action: &'static str,
        /// The file, as seen from the golden node.
        path: PathBuf,
        /// The kernel's error.
        errno: Errno,
    },
    /// A file cannot be stored in an archive, or the output did not accept the stream.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A partition has changed since the plan was made.
    #[error("{} has {found} bytes; the plan says {planned}", path.display())]
    PartitionSize {
        /// Its device node.
        path: PathBuf,
        /// Its size in the plan.
        planned: u64,
        /// Its current size.
        found: u64,
    },
    /// A partition is or was writable by others while it is read.
    #[error("{path}: {busy}", path = .path.display())]
    Busy {
        /// Its device node.
        path: PathBuf,
        /// The writer.
        busy: Busy,
    },
    /// Two sources have one mount point.
    #[error("two sources for {}", .0.display())]
    TwoSources(PathBuf),
    /// A path is not absolute, or contains `..`.
    #[error("{} is not an absolute path without `..`", .0.display())]
    BadPath(PathBuf),
}

/// Writes the files of `sources` as one archive.
///
/// Only the result shows whether the archive is complete: its end, two zero blocks, is written to `out` only
/// on success.
///
/// # Errors
/// [`PackError`]; the data written so far are not an archive.
pub fn pack(sources: &[Source], options: &Options, out: impl Write) -> Result<Summary, PackError> {
    pack_to(sources, options, &mut Roomy::new(out, BUFFER))
}

/// Like [`pack`], for an `out` with room for data.
///
/// # Errors
/// As [`pack`].
pub fn pack_to(sources: &[Source], options: &Options, out: &mut dyn Output) -> Result<Summary, PackError> {
    pack_without(&swaps::in_use()?, sources, options, out)
}

/// Like [`pack`], but omits the contents of these swap files after their first page.
fn pack_without(
    swaps: &HashSet<FileId>,
    sources: &[Source],
    options: &Options,
    out: &mut dyn Output,
) -> Result<Summary, PackError> {
    let mut sources = sources
        .iter()
        .map(|source| Ok((clone_path(&source.mount_point)?, source.directory.as_path())))
        .collect::<Result<Vec<_>, PackError>>()?;
    sources.sort();
    if let Some(pair) = sources.windows(2).find(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
        return Err(PackError::TwoSources(
            pair.iter().map(|(path, _)| shown_path(path)).next().unwrap_or_default(),
        ));
    }
    let exclude = options.exclude.iter().map(|path| clone_path(path)).collect::<Result<_, _>>()?;
    let mount_points = sources.iter().map(|(path, _)| path.clone()).collect();

    let encoder = Encoder::new(out);
    let mut walker = walk::Walker::new(encoder, exclude, mount_points, swaps, options);
    for (mount_point, directory) in &sources {
        walker.source(mount_point, directory)?;
    }
    for partition in &options.partitions {
        walker.partition(partition)?;
    }
    walker.finish()
}

/// Writes the files of one directory, which is not meant for a clone.
///
/// # Errors
/// As [`pack`].
pub fn pack_dir(directory: &Path, options: &Options, out: impl Write) -> Result<Summary, PackError> {
    pack_dir_to(directory, options, &mut Roomy::new(out, BUFFER))
}

/// Like [`pack_dir`], for an `out` with room for data.
///
/// # Errors
/// As [`pack`].
pub fn pack_dir_to(directory: &Path, options: &Options, out: &mut dyn Output) -> Result<Summary, PackError> {
    let source = Source { directory: directory.to_owned(), mount_point: PathBuf::from("/") };
    pack_to(&[source], options, out)
}

/// An absolute path in the form that the walker compares: empty for the root, otherwise `/` before every
/// part.
fn clone_path(path: &Path) -> Result<Vec<u8>, PackError> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(PackError::BadPath(path.to_owned()));
    }
    let mut clean = Vec::with_capacity(bytes.len());
    for part in bytes.split(|&b| b == b'/').filter(|part| !part.is_empty()) {
        if part == b".." || part == b"." {
            return Err(PackError::BadPath(path.to_owned()));
        }
        clean.push(b'/');
        clean.extend(part);
    }
    Ok(clean)
}

fn shown_path(path: &[u8]) -> PathBuf {
    Path::new("/").join(std::ffi::OsStr::from_bytes(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn what_is_swapped_out_stays_at_home() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("swapfile");
        let file = std::fs::File::create(&path).unwrap();
        file.write_all_at(b"HEADER", 1024).unwrap();
        file.write_all_at(&b"SECRET".repeat(10_000), 4096).unwrap();
        let metadata = file.metadata().unwrap();
        let sources = [Source { directory: directory.path().to_owned(), mount_point: PathBuf::from("/") }];
        let packed = |swaps: &HashSet<FileId>| {
            let mut out = Vec::new();
            let summary =
                pack_without(swaps, &sources, &Options::default(), &mut Roomy::new(&mut out, BUFFER))
                    .unwrap();
            let has = |text: &[u8]| out.windows(text.len()).any(|window| window == text);
            (has(b"HEADER"), has(b"SECRET"), summary.notes.first().len())
        };
        assert_eq!(packed(&HashSet::new()), (true, true, 0));
        let swap = HashSet::from([(metadata.dev(), metadata.ino())]);
        assert_eq!(packed(&swap), (true, false, 1));
    }
}
