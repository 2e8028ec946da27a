//! Names on file systems that ignore case: FAT, exFAT, NTFS, and ext4 below `chattr +F`.

/// The name in upper case, or else in lower case; `None` if it has no letters with two cases.
#[must_use]
pub fn other_case(name: &[u8]) -> Option<Vec<u8>> {
    let other = match std::str::from_utf8(name) {
        Ok(text) => [text.to_uppercase(), text.to_lowercase()].map(String::into_bytes),
        Err(_) => [name.to_ascii_uppercase(), name.to_ascii_lowercase()],
    };
    other.into_iter().find(|other| other != name)
}

/// The name roughly as such file systems compare it: FAT ignores trailing dots.
#[must_use]
pub fn folded(name: &[u8]) -> Vec<u8> {
    let folded = match std::str::from_utf8(name) {
        // `ẞ` and `ſ` match `ss` and `s` only by way of upper case.
        Ok(text) => text.to_uppercase().to_lowercase().into_bytes(),
        Err(_) => name.to_ascii_lowercase(),
    };
    let end = folded.iter().rposition(|&b| b != b'.').map_or(folded.len(), |last| last + 1);
    folded.get(..end).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case() {
        for (one, other) in [
            ("README", "readme"),
            ("Straße", "STRASSE"),
            ("ÉTÉ", "été"),
            ("name.", "NAME"),
            ("boot.cfg", "Boot.Cfg"),
        ] {
            assert_eq!(folded(one.as_bytes()), folded(other.as_bytes()), "{one}");
        }
        for (one, other) in [("a", "b"), ("a.b", "ab"), (".", "a")] {
            assert_ne!(folded(one.as_bytes()), folded(other.as_bytes()), "{one}");
        }
        assert_eq!(other_case(b"Readme").unwrap(), b"README");
        assert_eq!(other_case(b"README").unwrap(), b"readme");
        assert_eq!(other_case(b"\xe9A").unwrap(), b"\xe9a");
        assert_eq!(other_case(b"123"), None);
    }
}
