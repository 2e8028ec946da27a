//! Where a partition has anything but zeros.

use std::os::fd::OwnedFd;

use ka::archive::{MAX_SEGMENTS, Segment};
use rustix::io::Errno;

use super::coalesce;

/// What is read at once.
const PIECE: usize = 1 << 20;
/// Holes begin and end at multiples of this: a target's sectors are no larger.
const GRAIN: usize = 4096;
/// The least hole that is worth an entry in a map.
const MIN_HOLE: u64 = 64 << 10;

/// Reads the first `size` bytes.
pub(super) fn scan(fd: &OwnedFd, size: u64) -> rustix::io::Result<Vec<Segment>> {
    let zeros = vec![0; GRAIN];
    let mut piece = vec![0; PIECE];
    let (mut segments, mut offset): (Vec<Segment>, u64) = (Vec::new(), 0);
    // Grows while there are too many, so that the map stays small whatever is on the partition.
    let mut least = MIN_HOLE;
    while offset < size {
        let want = usize::try_from(size - offset).map_or(PIECE, |left| left.min(PIECE));
        let read = read_whole(fd, piece.get_mut(..want).unwrap_or_default(), offset)?;
        for (grain, at) in read.chunks(GRAIN).zip((offset..).step_by(GRAIN)) {
            if Some(grain) == zeros.get(..grain.len()) {
                continue;
            }
            let len = grain.len() as u64;
            match segments.last_mut() {
                Some(last) if at - (last.offset + last.len) < least => last.len = at + len - last.offset,
                _ => segments.push(Segment { offset: at, len }),
            }
        }
        if segments.len() >= MAX_SEGMENTS {
            least *= 2;
            segments = coalesce(segments, least);
        }
        offset += want as u64;
    }
    Ok(segments)
}

/// Fills `buffer`; a device that ends before is at fault.
fn read_whole<'a>(fd: &OwnedFd, buffer: &'a mut [u8], offset: u64) -> rustix::io::Result<&'a [u8]> {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::io::pread(fd, buffer.get_mut(done..).unwrap_or_default(), offset + done as u64) {
            Ok(0) => return Err(Errno::IO),
            Ok(got) => done += got,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn only_long_runs_of_zeros_are_holes() {
        let file = tempfile::tempfile().unwrap();
        let size = (8 << 20) + 512;
        file.set_len(size).unwrap();
        for (at, bytes) in [(5000, &b"x"[..]), (5000 + (32 << 10), b"y"), (3 << 20, b"z"), (size - 1, b"e")] {
            file.write_all_at(bytes, at).unwrap();
        }
        let found = scan(&file.into(), size).unwrap();
        let expected = [
            Segment { offset: 4096, len: 9 * 4096 },
            Segment { offset: 3 << 20, len: 4096 },
            Segment { offset: 8 << 20, len: 512 },
        ];
        assert_eq!(found, expected);
    }
}
