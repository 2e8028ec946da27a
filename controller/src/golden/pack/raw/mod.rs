//! A partition as one file of the archive: the used parts as data, the rest as holes.
//!
//! partclone reports the used parts if it supports the file system and its map can be trusted; the rest is
//! irrelevant. On any other partition every byte is content, and only zeros are holes. Such a partition is
//! read twice, because an archive has a file's map before its data.

mod clean;
mod map;
mod zeros;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use ka::archive::{Encoder, Entry, Kind, MAX_SEGMENTS, Output, RawHoles, RawPartition, Segment, Time};
use rustix::fs::{Advice, SeekFrom};
use rustix::io::Errno;

use super::PackError;
use super::file::{self, CopyError};
use crate::golden::chosen::RawSource;
use crate::golden::quiet::Quiet;

/// The archive's directory for partitions, for other tar programs.
const FOLDER: &str = "./KA.partitions";

/// Writes the partition's entry and its data; `tell` is called with the archive's length.
pub(super) fn pack<W: Output>(
    source: &RawSource,
    encoder: &mut Encoder<W>,
    tell: impl Fn(u64),
) -> Result<(), PackError> {
    let failed = |action| move |errno| PackError::Source { action, path: source.device.clone(), errno };
    let file = File::open(&source.device).map_err(|e| failed("open")(errno(&e)))?;
    let fd = OwnedFd::from(file);
    let size = rustix::fs::seek(&fd, SeekFrom::End(0)).map_err(failed("get the size of"))?;
    if size != source.size {
        let (path, planned) = (source.device.clone(), source.size);
        return Err(PackError::PartitionSize { path, planned, found: size });
    }
    let busy = |busy| PackError::Busy { path: source.device.clone(), busy };
    let quiet = Quiet::begin(&source.device).map_err(busy)?;
    // A mounted file system writes past the device's own cache, which may be stale.
    rustix::fs::fadvise(&fd, 0, None, Advice::DontNeed).map_err(failed("forget what was read of"))?;
    let (holes, segments) = used(source, &fd).map_err(failed("read"))?;
    encoder.entry(&Entry {
        path: format!("{FOLDER}/{}", source.name).into_bytes(),
        kind: Kind::File { size, segments: Some(segments.clone()) },
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: Vec::new(),
        traits: ka::archive::Traits::default(),
        partition: Some(RawPartition { name: source.name.clone(), holes }),
    })?;
    for segment in segments {
        let copied = file::copy(&fd, segment, encoder, &tell).map_err(|error| match error {
            CopyError::Read(errno) => failed("read")(errno),
            CopyError::Archive(error) => error.into(),
        })?;
        if copied.missing > 0 {
            return Err(failed("read all of")(Errno::IO));
        }
    }
    quiet.end().map_err(busy)
}

/// The partition's byte ranges to copy, and the treatment of the others.
fn used(source: &RawSource, fd: &OwnedFd) -> rustix::io::Result<(RawHoles, Vec<Segment>)> {
    let device: &Path = &source.device;
    let mapped = match source.kind.as_deref() {
        Some(kind) => {
            clean::check(kind, device, fd.as_fd()).and_then(|()| map::of(kind, device, source.size))
        }
        None => Err("its contents are unknown".to_owned()),
    };
    match mapped {
        Ok(segments) => Ok((RawHoles::Unused, coalesce(segments, 0))),
        Err(reason) => {
            log::info!("{}: everything but zeros is copied: {reason}", device.display());
            zeros::scan(fd, source.size).map(|segments| (RawHoles::Zero, segments))
        }
    }
}

/// Merges segments whose gap is at most `gap`, and larger gaps if there are too many segments.
fn coalesce(mut segments: Vec<Segment>, mut gap: u64) -> Vec<Segment> {
    loop {
        segments.dedup_by(|next, last| {
            let end = last.offset + last.len;
            let near = next.offset <= end.saturating_add(gap);
            if near {
                last.len = (next.offset + next.len).max(end) - last.offset;
            }
            near
        });
        if segments.len() <= MAX_SEGMENTS {
            return segments;
        }
        gap = (gap * 2).max(4096);
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_that_touch_or_are_near_are_one() {
        let of = |pairs: &[(u64, u64)]| -> Vec<Segment> {
            pairs.iter().map(|&(offset, len)| Segment { offset, len }).collect()
        };
        assert_eq!(coalesce(of(&[(0, 4), (4, 4), (9, 1)]), 0), of(&[(0, 8), (9, 1)]));
        assert_eq!(coalesce(of(&[(0, 8), (2, 3), (12, 1), (40, 1)]), 4), of(&[(0, 13), (40, 1)]));
        let many: Vec<Segment> = (0..3 << 20).map(|i| Segment { offset: i * 8192, len: 512 }).collect();
        let fewer = coalesce(many, 0);
        assert!(fewer.len() <= MAX_SEGMENTS);
        assert_eq!(fewer.last().map(|last| last.offset + last.len), Some(((3 << 20) - 1) * 8192 + 512));
    }
}
