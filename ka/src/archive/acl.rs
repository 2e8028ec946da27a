//! POSIX ACLs: the kernel's binary form, and the text form that tars exchange.
//!
//! The text is what `acl_to_text(3)` and star write, `user::rw-,user:1000:r--,…`, with entries separated by
//! commas or newlines. The binary form is `struct posix_acl_xattr_header` version 2 followed by its entries
//! (`linux/posix_acl_xattr.h`). GNU tar with `--acls` reads only the text, so both are written.

const VERSION: u32 = 2;
const NO_ID: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Converts an ACL's text to binary; `None` if the text is empty, or if the file `has_mode` bits that say the
/// same.
pub(super) fn from_text(text: &[u8], has_mode: bool) -> Result<Option<Vec<u8>>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "its ACL is not text".to_owned())?;
    let mut entries = Vec::new();
    for line in text.split([',', '\n']) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            entries.push(entry(line).ok_or_else(|| format!("cannot understand the ACL entry {line:?}"))?);
        }
    }
    let minimal = entries.iter().all(|(tag, ..)| matches!(*tag, USER_OBJ | GROUP_OBJ | OTHER));
    if entries.is_empty() || (has_mode && minimal) {
        return Ok(None);
    }
    entries.sort_by_key(|&(tag, _, id)| (tag, id));
    let mut binary = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        binary.extend(tag.to_le_bytes());
        binary.extend(permissions.to_le_bytes());
        binary.extend(id.to_le_bytes());
    }
    Ok(Some(binary))
}

/// `TAG:QUALIFIER:PERMISSIONS`. star adds `:ID` because it writes names.
fn entry(line: &str) -> Option<(u16, u16, u32)> {
    let mut fields = line.split(':').map(str::trim);
    let tag = fields.next()?;
    let qualifier = fields.next()?;
    let (qualifier, permissions) = match (tag, fields.next()) {
        // The short forms `mask:rwx` and `other:rwx` have no qualifier.
        ("mask" | "m" | "other" | "o", None) => ("", qualifier),
        (_, third) => (qualifier, third?),
    };
    let id = match qualifier {
        "" => NO_ID,
        "root" => 0,
        name => name.parse().ok().or_else(|| fields.next()?.parse().ok())?,
    };
    let tag = match (tag, qualifier.is_empty()) {
        ("user" | "u", true) => USER_OBJ,
        ("user" | "u", false) => USER,
        ("group" | "g", true) => GROUP_OBJ,
        ("group" | "g", false) => GROUP,
        ("mask" | "m", true) => MASK,
        ("other" | "o", true) => OTHER,
        _ => return None,
    };
    let mut bits = 0;
    for c in permissions.chars() {
        bits |= match c {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            _ => return None,
        };
    }
    Some((tag, bits, id))
}

/// Converts a binary ACL to text; `None` if its format is unknown.
pub(super) fn to_text(binary: &[u8]) -> Option<String> {
    let (version, entries) = binary.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || entries.len() % 8 != 0 {
        return None;
    }
    let mut lines = Vec::new();
    for entry in entries.chunks_exact(8) {
        let (tag, rest) = entry.split_first_chunk::<2>()?;
        let (bits, id) = rest.split_first_chunk::<2>()?;
        let id = u32::from_le_bytes(id.try_into().ok()?);
        let who = match u16::from_le_bytes(*tag) {
            USER_OBJ => "user:".to_owned(),
            USER => format!("user:{id}"),
            GROUP_OBJ => "group:".to_owned(),
            GROUP => format!("group:{id}"),
            MASK => "mask:".to_owned(),
            OTHER => "other:".to_owned(),
            _ => return None,
        };
        let bits = u16::from_le_bytes(*bits);
        let letter = |bit, c| if bits & bit == 0 { '-' } else { c };
        lines.push(format!("{who}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x')));
    }
    Some(lines.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_binary_say_the_same() {
        let text = "user::rw-,user:1234:r--,group::r--,group:7:rwx,mask::rwx,other::---";
        let binary = from_text(text.as_bytes(), true).unwrap().unwrap();
        assert_eq!(binary.len(), 4 + 6 * 8);
        assert_eq!(to_text(&binary).unwrap(), text);
    }

    #[test]
    fn what_other_tars_write_is_understood() {
        for (text, same_as) in [
            (
                "user::rw-\nuser:root:rwx\ngroup::r--\nmask::rwx\nother::r--\n",
                "user::rw-,user:0:rwx,group::r--,mask::rwx,other::r--",
            ),
            (
                "user::rw-,user:lisa:r--:502,group::r--,mask:r--,other:r--",
                "user::rw-,user:502:r--,group::r--,mask::r--,other::r--",
            ),
            (
                "u::rwx,g:5:r-x,g::r-x,m::r-x,o::r-x  # why",
                "user::rwx,group::r-x,group:5:r-x,mask::r-x,other::r-x",
            ),
        ] {
            assert_eq!(to_text(&from_text(text.as_bytes(), true).unwrap().unwrap()).unwrap(), same_as);
        }
        let minimal = b"user::rw-\ngroup::r--\nother::r--\n";
        assert_eq!(from_text(minimal, true), Ok(None));
        assert_eq!(from_text(minimal, false).unwrap().unwrap().len(), 4 + 3 * 8);
        assert_eq!(from_text(b"", false), Ok(None));
        for bad in ["user:lisa:rwx", "user", "everyone::rwx", "user::rwq", "mask:3:rwx"] {
            assert!(from_text(bad.as_bytes(), true).unwrap_err().contains(bad));
        }
    }

    #[test]
    fn odd_binary_has_no_text() {
        for odd in [&b""[..], b"\x02\0\0", b"\x03\0\0\0", b"\x02\0\0\0\x01", b"\x02\0\0\0\x40\0\0\0\0\0\0\0"]
        {
            assert_eq!(to_text(odd), None);
        }
    }
}
