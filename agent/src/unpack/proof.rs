//! Whether the medium has kept a sample of the files.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use ka::archive::shown;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::UnpackError;
use super::writers::Written;
use crate::read_back::{Kept, Sample};

/// File systems store times with a resolution of two seconds or better.
const EXACT: u64 = 2;

/// Reads a sample back after the sync.
pub(super) fn read_back(sample: &Sample<Written>) -> Result<(), UnpackError> {
    sample.pieces().iter().try_for_each(is_kept)
}

fn is_kept(piece: &Kept<Written>) -> Result<(), UnpackError> {
    let Written { path, changed, .. } = &piece.file;
    let failed = |error: io::Error| {
        UnpackError::system("read back", path, Errno::from_io_error(&error).unwrap_or(Errno::IO))
    };
    let file = match reopen(&piece.file) {
        Ok(file) => file,
        Err(error) => {
            // Only root can read everything, and `/proc` may be missing.
            log::debug!("cannot read {} back to verify it: {error}", shown(path));
            return Ok(());
        }
    };
    if piece.is_in(&file).map_err(failed)? {
        return Ok(());
    }
    if file.metadata().map_err(failed)?.mtime().abs_diff(*changed) > EXACT {
        log::warn!("{}: another program wrote to it in the meantime; it is not verified", shown(path));
        return Ok(());
    }
    Err(UnpackError::NotKept { path: shown(path), offset: piece.offset })
}

/// The written file, open for reading, whatever its name refers to by now.
fn reopen(file: &Written) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.fd.as_raw_fd());
    let open =
        |flags: OFlags| OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&path);
    match open(OFlags::NOATIME) {
        // Owned by another user.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => open(OFlags::empty()),
        outcome => outcome,
    }
}
