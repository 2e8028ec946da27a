//! Pax extended header records: `LENGTH KEYWORD=VALUE\n`, where the length includes itself.
//!
//! Values are bytes and may contain newlines, so only the length delimits a record.

use std::collections::BTreeMap;

use super::acl;
use super::entry::{RawHoles, RawPartition, Time, Xattr};
use super::flags::{Flags, Traits};
use super::number;
use super::sparse::Map;

const XATTR: &str = "SCHILY.xattr.";
const ACL_ACCESS: &str = "SCHILY.acl.access";
const ACL_DEFAULT: &str = "SCHILY.acl.default";
const XATTR_ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const XATTR_ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
/// The memory that an attribute takes besides its bytes: its place in the map and two vectors.
const RECORD: usize = 64;
/// The partition whose bytes a regular file holds.
pub(super) const PARTITION: &[u8] = b"KA.partition";
/// The meaning of the holes in such a file.
pub(super) const HOLES: &[u8] = b"KA.holes";
/// Inode flags.
const FLAGS: &[u8] = b"SCHILY.fflags";
/// The project id.
const PROJECT: &[u8] = b"KA.project";
/// The extent size hint.
const EXTENT_SIZE: &[u8] = b"KA.extsize";
/// The hint for copy-on-write extents.
const COW_EXTENT_SIZE: &[u8] = b"KA.cowextsize";
const NANOS: u32 = 1_000_000_000;

/// Appends a record.
pub(super) fn push(records: &mut Vec<u8>, keyword: &[u8], value: &[u8]) {
    let rest = keyword.len() + value.len() + 3;
    let mut total = rest + digits(rest);
    if rest + digits(total) > total {
        total = rest + digits(total);
    }
    records.extend(total.to_string().as_bytes());
    records.push(b' ');
    records.extend(keyword);
    records.push(b'=');
    records.extend(value);
    records.push(b'\n');
}

fn digits(n: usize) -> usize {
    n.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Appends flags, project id and hints, if set.
pub(super) fn push_traits(records: &mut Vec<u8>, traits: &Traits) {
    let Traits { flags, project, extent_size, cow_extent_size } = *traits;
    if !flags.is_empty() {
        push(records, FLAGS, flags.names().as_bytes());
    }
    for (keyword, number) in
        [(PROJECT, project), (EXTENT_SIZE, extent_size), (COW_EXTENT_SIZE, cow_extent_size)]
    {
        if number != 0 {
            push(records, keyword, number.to_string().as_bytes());
        }
    }
}

/// Appends a file's extended attributes, with its ACLs both as text and in binary.
pub(super) fn push_xattrs(records: &mut Vec<u8>, xattrs: &[Xattr]) {
    for xattr in xattrs {
        let text = match xattr.name.as_slice() {
            XATTR_ACL_ACCESS => Some(ACL_ACCESS),
            XATTR_ACL_DEFAULT => Some(ACL_DEFAULT),
            _ => None,
        };
        if let Some((keyword, text)) = text.zip(acl::to_text(&xattr.value)) {
            push(records, keyword.as_bytes(), text.as_bytes());
        }
        let mut keyword = XATTR.as_bytes().to_vec();
        for &byte in &xattr.name {
            // A keyword ends at the first `=`; GNU tar escapes it in this way.
            match byte {
                b'=' => keyword.extend(b"%3D"),
                b'%' => keyword.extend(b"%25"),
                _ => keyword.push(byte),
            }
        }
        push(records, &keyword, &xattr.value);
    }
}

fn xattr_name(keyword: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(keyword.len());
    let mut rest = keyword;
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, tail) = match rest {
            [b'%', b'3', b'D' | b'd', tail @ ..] => (b'=', tail),
            [b'%', b'2', b'5', tail @ ..] => (b'%', tail),
            _ => (first, tail),
        };
        name.push(byte);
        rest = tail;
    }
    name
}

/// A time as a decimal number of seconds: half a second before 1970 is `-0.5`.
pub(super) fn time_text(time: Time) -> String {
    if time.nsec == 0 {
        return time.sec.to_string();
    }
    let (sign, sec, nsec) = if time.sec < 0 {
        ("-", (time.sec + 1).unsigned_abs(), NANOS - time.nsec)
    } else {
        ("", time.sec.unsigned_abs(), time.nsec)
    };
    let text = format!("{sign}{sec}.{nsec:09}");
    text.trim_end_matches('0').to_owned()
}

/// Parses such a number. Digits beyond nanoseconds are dropped.
pub(super) fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let mut parts = text.splitn(2, |&b| b == b'.');
    let sec = i128::from(number(parts.next()?)?);
    let mut nsec: u32 = 0;
    if let Some(fraction) = parts.next() {
        if !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        for place in 0..9 {
            nsec = nsec * 10 + fraction.get(place).map_or(0, |d| u32::from(d - b'0'));
        }
    }
    let (sec, nsec) = match (negative, nsec) {
        (false, _) => (sec, nsec),
        (true, 0) => (-sec, 0),
        (true, _) => (-sec - 1, NANOS - nsec),
    };
    Some(Time { sec: i64::try_from(sec).ok()?, nsec })
}

/// Parses a 32-bit number; an empty value is 0.
fn number_32(text: &[u8]) -> Option<u32> {
    if text.is_empty() { Some(0) } else { u32::try_from(number(text)?).ok() }
}

/// Iterates over a header's records: keyword and value.
pub(super) fn records(mut bytes: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), String>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        match split_record(bytes) {
            Some((keyword, value, rest)) => {
                bytes = rest;
                Some(Ok((keyword, value)))
            }
            None => {
                bytes = &[];
                Some(Err("a record of its pax header is damaged".to_owned()))
            }
        }
    })
}

fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|&b| b == b' ')?;
    let len = usize::try_from(number(bytes.get(..space)?)?).ok()?;
    let record = bytes.get(space + 1..len)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&b| b == b'=')?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, bytes.get(len..)?))
}

/// The records' values, for one entry or for all that follow.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) sparse: Sparse,
    traits: Traits,
    partition: Option<String>,
    holes: Option<RawHoles>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    acl_access: Option<Vec<u8>>,
    acl_default: Option<Vec<u8>>,
}

/// The values of `GNU.sparse.*` for one entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Sparse {
    /// The file's real name; the entry has a made-up one for tars without sparse support.
    pub(super) name: Option<Vec<u8>>,
    /// The file's size with its holes.
    pub(super) size: Option<u64>,
    /// The map of formats 0.0 and 0.1.
    pub(super) map: Option<Map>,
    major: Option<u64>,
    minor: Option<u64>,
    /// Format 0.0: an offset whose length comes next.
    offset: Option<u64>,
}

impl Sparse {
    /// Whether the map precedes the data (format 1.0).
    pub(super) fn map_in_data(&self) -> Result<bool, String> {
        match (self.major, self.minor) {
            (None | Some(0), _) => Ok(false),
            (Some(1), None | Some(0)) => Ok(true),
            (Some(major), minor) => {
                Err(format!("its sparse format {major}.{} is not known", minor.unwrap_or(0)))
            }
        }
    }
}

impl Attributes {
    /// Applies a whole header.
    pub(super) fn apply(&mut self, header: &[u8]) -> Result<(), String> {
        for record in records(header) {
            let (keyword, value) = record?;
            let wrong = || format!("its pax record {} is damaged", super::shown(keyword));
            self.record(keyword, value).ok_or_else(wrong)??;
        }
        Ok(())
    }

    /// Applies one record; `None` if the keyword cannot have this value. An empty value cancels an earlier
    /// one (POSIX), except for extended attributes, which may be empty.
    fn record(&mut self, keyword: &[u8], value: &[u8]) -> Option<Result<(), String>> {
        let text = || Some(value.to_vec()).filter(|v| !v.is_empty());
        let numeric = || if value.is_empty() { Some(None) } else { number(value).map(Some) };
        match keyword {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = numeric()?,
            b"uid" => self.uid = numeric()?,
            b"gid" => self.gid = numeric()?,
            b"mtime" => self.mtime = if value.is_empty() { None } else { Some(time(value)?) },
            b"SCHILY.acl.access" => self.acl_access = text(),
            b"SCHILY.acl.default" => self.acl_default = text(),
            b"RHT.security.selinux" => self.xattr(b"security.selinux".to_vec(), value),
            b"GNU.sparse.major" => self.sparse.major = numeric()?,
            b"GNU.sparse.minor" => self.sparse.minor = numeric()?,
            b"GNU.sparse.name" => self.sparse.name = text(),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = numeric()?,
            b"GNU.sparse.map" => match Map::from_list(value) {
                Ok(map) => self.sparse.map = Some(map),
                Err(problem) => return Some(Err(problem)),
            },
            b"GNU.sparse.offset" => self.sparse.offset = Some(number(value)?),
            b"GNU.sparse.numbytes" => {
                let offset = self.sparse.offset.take()?;
                let pushed = self.sparse.map.get_or_insert_default().push(offset, number(value)?);
                return Some(pushed);
            }
            b"GNU.sparse.numblocks" => self.sparse.map = Some(Map::default()),
            FLAGS => self.traits.flags = Flags::of_names(value),
            PROJECT => self.traits.project = number_32(value)?,
            EXTENT_SIZE => self.traits.extent_size = number_32(value)?,
            COW_EXTENT_SIZE => self.traits.cow_extent_size = number_32(value)?,
            PARTITION => {
                let name = String::from_utf8(value.to_vec()).ok()?;
                self.partition = Some(Some(name).filter(|name| RawPartition::is_name(name.as_bytes()))?);
            }
            HOLES => self.holes = Some(RawHoles::of_name(value)?),
            _ => {
                if let Some(name) = keyword.strip_prefix(XATTR.as_bytes()) {
                    self.xattr(xattr_name(name), value);
                }
            }
        }
        Some(Ok(()))
    }

    /// The memory in bytes that the values take; their number is unlimited.
    pub(super) fn held(&self) -> usize {
        let xattrs = self.xattrs.iter().map(|(name, value)| name.len() + value.len() + RECORD).sum::<usize>();
        let texts = [&self.path, &self.link, &self.acl_access, &self.acl_default, &self.sparse.name];
        let texts = texts.into_iter().flatten().map(Vec::len).sum::<usize>();
        xattrs + texts + self.sparse.map.as_ref().map_or(0, Map::held)
    }

    /// Flags, project id and hints.
    pub(super) fn take_traits(&mut self) -> Traits {
        std::mem::take(&mut self.traits)
    }

    /// The partition that an entry holds.
    pub(super) fn take_partition(&mut self) -> Result<Option<RawPartition>, String> {
        match (self.partition.take(), self.holes.take()) {
            (None, None) => Ok(None),
            (Some(name), Some(holes)) => Ok(Some(RawPartition { name, holes })),
            _ => Err("one of a partition's two records is missing".to_owned()),
        }
    }

    fn xattr(&mut self, name: Vec<u8>, value: &[u8]) {
        self.xattrs.insert(name, value.to_vec());
    }

    /// The extended attributes, by name. Binary ACLs are exact and take precedence over text; an access ACL
    /// that only repeats the mode is dropped.
    pub(super) fn take_xattrs(&mut self) -> Result<Vec<Xattr>, String> {
        let mut xattrs = std::mem::take(&mut self.xattrs);
        let access = self.acl_access.take().map(|text| (XATTR_ACL_ACCESS, text, true));
        let default = self.acl_default.take().map(|text| (XATTR_ACL_DEFAULT, text, false));
        for (name, text, has_mode) in access.into_iter().chain(default) {
            if !xattrs.contains_key(name)
                && let Some(value) = acl::from_text(&text, has_mode)?
            {
                xattrs.insert(name.to_vec(), value);
            }
        }
        if xattrs.keys().any(|name| name.is_empty() || name.contains(&0)) {
            return Err("the name of an extended attribute is damaged".to_owned());
        }
        Ok(xattrs.into_iter().map(|(name, value)| Xattr { name, value }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_records_length_counts_itself() {
        for len in (0..120).chain(960..1010).chain(9_980..10_010) {
            let mut bytes = Vec::new();
            let value = vec![b'\n'; len];
            push(&mut bytes, b"k", &value);
            push(&mut bytes, b"next", b"1=2");
            let all: Vec<_> = records(&bytes).map(Result::unwrap).collect();
            assert_eq!(all, [(&b"k"[..], &value[..]), (b"next", b"1=2")]);
        }
    }

    #[test]
    fn times_are_real_numbers() {
        for (text, sec, nsec) in [
            ("0", 0, 0),
            ("-0.5", -1, 500_000_000),
            ("-157766399.75", -157_766_400, 250_000_000),
            ("-3", -3, 0),
            ("1795424324.287910633", 1_795_424_324, 287_910_633),
            ("17179869184.000000001", 1 << 34, 1),
            ("-9223372036854775808", i64::MIN, 0),
            ("-9223372036854775807.999999999", i64::MIN, 1),
        ] {
            assert_eq!(time(text.as_bytes()), Some(Time { sec, nsec }), "{text}");
            assert_eq!(time_text(Time { sec, nsec }), text);
        }
        assert_eq!(time(b"1.5000000009"), Some(Time { sec: 1, nsec: 500_000_000 }));
        for bad in ["", "-", "1.x", "x", "1 ", "+1", "9223372036854775808", "--1", "1.2.3"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn damaged_records_are_told() {
        for bad in [
            &b"5 a=b\n"[..],
            b"6 a=bc",
            b"9 a=b\n",
            b"6 abcd\n",
            b"x a=b\n",
            b"0 a=b\n",
            b"99999999999999999999 a=b\n",
        ] {
            assert!(records(bad).any(|r| r.is_err()), "{bad:?}");
        }
        for bad in
            ["size=-1", "uid=x", "mtime=soon", "GNU.sparse.numbytes=1", "GNU.sparse.map=1", "SCHILY.xattr.=1"]
        {
            let (keyword, value) = bad.split_once('=').unwrap();
            let mut bytes = Vec::new();
            push(&mut bytes, keyword.as_bytes(), value.as_bytes());
            let mut attributes = Attributes::default();
            assert!(attributes.apply(&bytes).and_then(|()| attributes.take_xattrs()).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_attributes_are_escaped() {
        let xattrs = vec![Xattr { name: b"user.a=b%c%3D".to_vec(), value: b"x\n\0=".to_vec() }];
        let mut bytes = Vec::new();
        push_xattrs(&mut bytes, &xattrs);
        assert!(bytes.windows(22).any(|w| w == b"user.a%3Db%25c%253D=x\n"));
        let mut attributes = Attributes::default();
        attributes.apply(&bytes).unwrap();
        assert_eq!(attributes.take_xattrs().unwrap(), xattrs);
    }
}
