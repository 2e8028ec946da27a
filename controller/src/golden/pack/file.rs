//! One regular file that may change while it is read.

use std::io::IoSliceMut;
use std::os::fd::{BorrowedFd, OwnedFd};

use ka::archive::{ArchiveError, Encoder, MAX_SEGMENTS, Output, Segment};
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};

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

/// What was found while a segment was copied.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Copied {
    /// So many bytes were missing.
    pub(super) missing: u64,
    /// Its beginning was not in memory.
    pub(super) cold: bool,
}

/// Copies one segment of a file into the archive. If the file ends before, zeros take its place. `tell` is called after
/// each piece.
pub(super) fn copy<W: Output>(
    file: &OwnedFd,
    segment: Segment,
    encoder: &mut Encoder<W>,
    tell: impl Fn(u64),
) -> Result<Copied, CopyError> {
    let (mut done, mut copied) = (0, Copied::default());
    while done < segment.len {
        let left = segment.len - done;
        let room = piece(encoder, left);
        let ask_memory = done == 0 && !copied.cold;
        let got = match read(file, room, segment.offset + done, ask_memory) {
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) if ask_memory => {
                copied.cold = true;
                continue;
            }
            got => got.map_err(CopyError::Read)?,
        };
        if got == 0 {
            zeros(left, encoder)?;
            return Ok(Copied { missing: left, ..copied });
        }
        encoder.fill(got).map_err(CopyError::Archive)?;
        done += got as u64;
        tell(encoder.offset());
    }
    Ok(copied)
}

/// Reads a piece of a file, or only what is in memory: otherwise that is EAGAIN.
fn read(file: &OwnedFd, room: &mut [u8], offset: u64, memory: bool) -> rustix::io::Result<usize> {
    if memory {
        let mut slices = [IoSliceMut::new(&mut *room)];
        match rustix::io::preadv2(file, &mut slices, offset, ReadWriteFlags::NOWAIT) {
            // Not every file system can say that.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            read => return read,
        }
    }
    rustix::io::pread(file, room, offset)
}

fn zeros<W: Output>(len: u64, encoder: &mut Encoder<W>) -> Result<(), CopyError> {
    let mut left = len;
    while left > 0 {
        let room = piece(encoder, left);
        room.fill(0);
        let step = room.len();
        encoder.fill(step).map_err(CopyError::Archive)?;
        left -= step as u64;
    }
    Ok(())
}

/// Room for at most `left` bytes, and no more than is read at once.
fn piece<W: Output>(encoder: &mut Encoder<W>, left: u64) -> &mut [u8] {
    let room = encoder.room();
    let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK).min(room.len());
    room.get_mut(..length).unwrap_or_default()
}
