//! One regular file that may change while it is read.

use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};

use ka::archive::{ArchiveError, Encoder, MAX_SEGMENTS, Segment};
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

/// How much is read at once.
const CHUNK: usize = 1 << 20;

/// Opens a file for reading without changing its access time, where the owner may ask for that.
pub(super) fn open(parent: BorrowedFd<'_>, name: &[u8], extra: OFlags) -> rustix::io::Result<OwnedFd> {
    let plain = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | extra;
    // Not to wait for the other end if it has become a pipe.
    let mut flags = plain | OFlags::NOATIME | OFlags::NONBLOCK;
    loop {
        match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Err(Errno::PERM) if flags.contains(OFlags::NOATIME) => flags -= OFlags::NOATIME,
            // Somebody holds a lease on it, which breaks when it is opened in earnest.
            Err(Errno::AGAIN) if flags.contains(OFlags::NONBLOCK) => flags -= OFlags::NONBLOCK,
            Err(Errno::INTR) => {}
            opened => return opened,
        }
    }
}

/// Where a file of `size` bytes has data; none if it has no holes.
pub(super) fn segments(file: &OwnedFd, size: u64) -> rustix::io::Result<Option<Vec<Segment>>> {
    if size == 0 {
        return Ok(None);
    }
    let mut segments: Vec<Segment> = Vec::new();
    let mut end = 0;
    while let Some(offset) = seek(file, SeekFrom::Data(end), size)? {
        if segments.len() == MAX_SEGMENTS - 1 {
            segments.push(Segment { offset, len: size - offset });
            break;
        }
        end = seek(file, SeekFrom::Hole(offset), size)?.unwrap_or(size);
        if end <= offset {
            // It is being written to under our eyes; what follows is read as data.
            end = size;
        }
        segments.push(Segment { offset, len: end - offset });
        if end == size {
            break;
        }
    }
    let whole = segments.as_slice() == [Segment { offset: 0, len: size }];
    Ok((!whole).then_some(segments))
}

/// Where data or a hole begins, if before `size`.
fn seek(file: &OwnedFd, to: SeekFrom, size: u64) -> rustix::io::Result<Option<u64>> {
    match rustix::fs::seek(file, to) {
        Ok(offset) => Ok(Some(offset).filter(|&offset| offset < size)),
        Err(Errno::NXIO) => Ok(None),
        // The file system does not know holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(match to {
            SeekFrom::Data(offset) => Some(offset),
            _ => None,
        }),
        Err(errno) => Err(errno),
    }
}

/// Why the copying of a file ended.
pub(super) enum CopyError {
    Read(Errno),
    Archive(ArchiveError),
}

/// Copies files' data into the archive.
pub(super) struct Copier {
    buffer: Vec<u8>,
}

impl Copier {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; CHUNK] }
    }

    /// Copies one segment. If the file ends before, zeros take its place, and how many were missing is
    /// returned. `tell` is called after each piece.
    pub(super) fn copy<W: Write>(
        &mut self,
        file: &OwnedFd,
        segment: Segment,
        encoder: &mut Encoder<W>,
        tell: impl Fn(u64),
    ) -> Result<u64, CopyError> {
        let mut done = 0;
        while done < segment.len {
            let left = segment.len - done;
            let want = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            let buffer = self.buffer.get_mut(..want).unwrap_or_default();
            let got = match rustix::io::pread(file, &mut *buffer, segment.offset + done) {
                Err(Errno::INTR) => continue,
                got => got.map_err(CopyError::Read)?,
            };
            if got == 0 {
                self.zeros(left, encoder)?;
                return Ok(left);
            }
            encoder.data(buffer.get(..got).unwrap_or_default()).map_err(CopyError::Archive)?;
            done += got as u64;
            tell(encoder.offset());
        }
        Ok(0)
    }

    fn zeros<W: Write>(&mut self, len: u64, encoder: &mut Encoder<W>) -> Result<(), CopyError> {
        self.buffer.fill(0);
        let mut left = len;
        while left > 0 {
            let step = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            encoder.data(self.buffer.get(..step).unwrap_or_default()).map_err(CopyError::Archive)?;
            left -= step as u64;
        }
        Ok(())
    }
}
