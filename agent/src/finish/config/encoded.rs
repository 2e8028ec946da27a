//! The encodings of udev and systemd for names in which some characters are not allowed.
//!
//! In udev's links `\x20` stands for a space. In the names of systemd's units `-` stands for a slash and
//! `\x2d` for a hyphen. So one name has several spellings in a system's files.

/// Encodes a value as udev does in a link's name: `Linux\x20swap`.
pub(in crate::finish) fn udev(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c) || !c.is_ascii();
    escape(value, |_, c| plain(c))
}

/// Encodes a path as systemd does in a unit's name (`systemd-escape --path`).
pub(in crate::finish) fn unit(path: &str) -> String {
    let parts: Vec<String> = path
        .split('/')
        .filter(|part| !part.is_empty())
        .enumerate()
        .map(|(index, part)| {
            escape(part, |at, c| {
                c.is_ascii_alphanumeric() || matches!(c, ':' | '_') || c == '.' && (at, index) != (0, 0)
            })
        })
        .collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join("-") }
}

/// The path of the device that a unit is named after: `/dev/sda1` for `dev-sda1`.
pub(in crate::finish) fn device_of_unit(name: &str) -> Option<String> {
    let rest = name.strip_prefix("dev-")?;
    Some(format!("/dev/{}", decode(&rest.replace('-', "/"))))
}

/// Resolves the escapes of udev, systemd and C in a value: `\x20` is a space, `\\` a backslash.
pub(in crate::finish) fn decode(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.strip_prefix(b"x").and_then(|tail| std::str::from_utf8(tail.get(..2)?).ok());
        match (*first, hex.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'\\', Some(byte)) => {
                plain.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            (b'\\', None) if tail.first() == Some(&b'\\') => {
                plain.push(b'\\');
                rest = tail.get(1..).unwrap_or_default();
            }
            (byte, _) => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn escape(text: &str, plain: impl Fn(usize, char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if plain(at, c) {
            escaped.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                escaped.push_str(&format!("\\x{byte:02x}"));
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn names_are_as_udev_writes_them() {
        for (value, link) in [
            ("Linux swap", r"Linux\x20swap"),
            ("a/b\\c", r"a\x2fb\x5cc"),
            ("EFI-1_2.3:4=5@6#7+", "EFI-1_2.3:4=5@6#7+"),
            ("Größe", "Größe"),
        ] {
            assert_eq!(udev(value), link);
            assert_eq!(decode(link), value);
        }
        assert_eq!(decode(r"a\\x20b"), r"a\x20b");
        assert_eq!(decode(r"a\x2"), r"a\x2");
    }

    /// systemd's own tool is the judge. Requires systemd-escape.
    #[test]
    fn units_are_named_as_systemd_names_them() {
        for path in [
            "/dev/disk/by-uuid/aaaaaaaa-0000-4000-8000-000000000001",
            "/dev/sda2",
            "/dev/disk/by-partlabel/Linux\\x20swap",
            "/dev//disk/by-id/ata-GOLD_1.2-part1/",
            "/.hidden/.x",
            "/",
            "/dev/disk/by-label/Größe",
        ] {
            let judged = Command::new("systemd-escape").args(["--path", path]).output();
            let judged = judged.expect("systemd-escape is needed for this test");
            assert_eq!(unit(path), String::from_utf8(judged.stdout).unwrap().trim(), "{path}");
            if path.starts_with("/dev/") {
                let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
                assert_eq!(device_of_unit(&unit(path)), Some(format!("/{}", parts.join("/"))));
            }
        }
    }
}
