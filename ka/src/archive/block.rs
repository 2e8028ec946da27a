//! One header block: its fields, numbers and checksum.
//!
//! The layout is the `tar` crate's. Numbers are parsed here, because times before 1970 are negative.

use tar::{EntryType, Header};

use super::BLOCK;
use super::entry::{Entry, Kind};

/// Length of the name and link name fields.
pub(super) const NAME: usize = 100;

/// The largest numbers that fit the 8-byte and 12-byte fields in octal, with the terminating NUL.
pub(super) const MAX_ID: u64 = 0o777_7777;
pub(super) const MAX_LONG: u64 = 0o777_7777_7777;

/// The ustar header of `entry`, with `size` bytes of data in the archive and the given `name`. Values that do
/// not fit are truncated or zero: the preceding pax header has them.
pub(super) fn of_entry(entry: &Entry, name: &[u8], size: u64) -> Header {
    let (kind, link, device): (_, &[u8], _) = match &entry.kind {
        Kind::File { .. } => (EntryType::Regular, &[], None),
        Kind::Directory => (EntryType::Directory, &[], None),
        Kind::Symlink { target } => (EntryType::Symlink, target, None),
        Kind::HardLink { target } => (EntryType::Link, target, None),
        Kind::CharDevice { major, minor } => (EntryType::Char, &[], Some((*major, *minor))),
        Kind::BlockDevice { major, minor } => (EntryType::Block, &[], Some((*major, *minor))),
        Kind::Fifo => (EntryType::Fifo, &[], None),
    };
    let fit = |n: u64, max: u64| if n <= max { n } else { 0 };
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(entry.mode & 0o7777);
    header.set_uid(fit(entry.uid.into(), MAX_ID));
    header.set_gid(fit(entry.gid.into(), MAX_ID));
    header.set_mtime(u64::try_from(entry.mtime.sec).map_or(0, |sec| fit(sec, MAX_LONG)));
    header.set_size(fit(size, MAX_LONG));
    copy(&mut header.as_old_mut().name, name);
    copy(&mut header.as_old_mut().linkname, link);
    if let Some(ustar) = header.as_ustar_mut() {
        let (major, minor) = device.unwrap_or_default();
        ustar.set_device_major(major);
        ustar.set_device_minor(minor);
    }
    header.set_cksum();
    header
}

/// The header of the pax records of an entry, `size` bytes of them.
pub(super) fn of_pax(name: &[u8], size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    copy(&mut header.as_old_mut().name, name);
    header.set_cksum();
    header
}

/// A placeholder for a name that is in a pax record: recognisable, and always the same.
pub(super) fn stand_in(folder: &str, path: &[u8]) -> Vec<u8> {
    let base = path.rsplit(|&b| b == b'/').find(|part| !part.is_empty()).unwrap_or(b".");
    let mut name = folder.as_bytes().to_vec();
    name.push(b'/');
    name.extend(base.iter().take(NAME - name.len()));
    name
}

fn copy(field: &mut [u8], bytes: &[u8]) {
    for (to, from) in field.iter_mut().zip(bytes) {
        *to = *from;
    }
}

/// Whether the checksum is right.
pub(super) fn is_sound(block: &[u8; BLOCK]) -> bool {
    let header = Header::from_byte_slice(block);
    let mut again = header.clone();
    again.set_cksum();
    header.cksum().is_ok_and(|sum| again.cksum().is_ok_and(|right| sum == right))
}

/// A text field, up to its first NUL.
pub(super) fn text(field: &[u8]) -> Vec<u8> {
    field.iter().copied().take_while(|&b| b != 0).collect()
}

/// The path in the header itself.
pub(super) fn path(header: &Header) -> Vec<u8> {
    let name = text(&header.as_old().name);
    match header.as_ustar().map(|ustar| text(&ustar.prefix)) {
        Some(prefix) if !prefix.is_empty() => [&prefix[..], b"/", &name[..]].concat(),
        _ => name,
    }
}

/// A numeric field: octal digits padded with spaces and NULs, or two's complement in base 256 when the first
/// bit is set (GNU tar, star). An empty field is 0.
pub(super) fn numeric(field: &[u8]) -> Option<i64> {
    match field.first()? {
        first if first & 0x80 != 0 => base_256(field),
        _ => octal(field),
    }
}

/// A numeric field that cannot be negative.
pub(super) fn unsigned(field: &[u8]) -> Option<u64> {
    u64::try_from(numeric(field)?).ok()
}

fn octal(field: &[u8]) -> Option<i64> {
    let blank = |b: &u8| *b == b' ' || *b == 0;
    let start = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
    let digits = field.get(start..)?;
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    digits.get(..end)?.iter().try_fold(0_i64, |n, &digit| match digit {
        b'0'..=b'7' => n.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

fn base_256(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    // The first bit marks the form, the second is the sign.
    let sign = if first & 0x40 == 0 { 0 } else { -1 };
    let top = i64::from(first & 0x3f) | (sign << 6);
    rest.iter().try_fold(top, |n, &byte| n.checked_mul(256)?.checked_add(i64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"77777777777\0", Some(0o777_7777_7777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"\x80\0\0\0\0\x20\0\0", Some(0x20_0000)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Some(1 << 33)),
            (b"\x80\x80\0\0\0\0\0\0\0\0\0\0", None),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"", None),
        ] {
            assert_eq!(numeric(field), value, "{field:?}");
        }
        assert_eq!(unsigned(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), None);
    }
}
