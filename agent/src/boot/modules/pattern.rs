//! The patterns of `modules.alias`: what a driver says about the devices that it can drive.

/// True if `text` matches `pattern` as by fnmatch(3): `*`, `?` and `[…]` (with ranges, and `!` or `^` first
/// for "none of these"). As for modprobe, `-` and `_` are the same outside of brackets.
///
/// Takes time in the order of both lengths multiplied, whatever the pattern.
#[must_use]
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // After the last `*` seen, and how much of the text it has swallowed so far. Only the last one ever
    // needs another try, as an earlier one can gain nothing by swallowing more.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
        } else if let Some(next) = one(pattern, p, text[t]) {
            p = next;
            t += 1;
        } else if let Some((after, swallowed)) = star {
            p = after;
            t = swallowed + 1;
            star = Some((after, t));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

/// Where the pattern goes on if its element at `p` takes the byte.
fn one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => match set(&pattern[p + 1..]) {
            Some((members, length)) => in_set(members, byte).then_some(p + 1 + length),
            None => (byte == b'[').then_some(p + 1),
        },
        literal => (same(literal) == same(byte)).then_some(p + 1),
    }
}

/// The bytes between the brackets, and the length up to and with the closing one. A `]` that comes first
/// (after `!`) is a member.
fn set(rest: &[u8]) -> Option<(&[u8], usize)> {
    let first = usize::from(matches!(rest.first(), Some(b'!' | b'^')));
    let close = rest.iter().skip(first + 1).position(|&b| b == b']')? + first + 1;
    Some((&rest[..close], close + 1))
}

fn in_set(members: &[u8], byte: u8) -> bool {
    let (negated, mut rest) = match members {
        [b'!' | b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    while let [low, tail @ ..] = rest {
        if let [b'-', high, tail @ ..] = tail {
            found |= (*low..=*high).contains(&byte);
            rest = tail;
        } else {
            found |= *low == byte;
            rest = tail;
        }
    }
    found != negated
}

fn same(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_by_fnmatch() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("*", "", true),
            ("a*", "a", true),
            ("*a*b", "xaxxb", true),
            ("*a*b", "xaxxbx", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4", true),
            ("virtio:d00000001v*", "virtio:d00000002v00001AF4", false),
            (
                "pci:v00008086d0000100Esv*sd*bc*sc*i*",
                "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00",
                true,
            ),
            (
                "pci:v00008086d0000100Fsv*sd*bc*sc*i*",
                "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00",
                false,
            ),
            ("usb:v*d0[0-9A-C]*dc*", "usb:v1234d0B00dcFF", true),
            ("usb:v*d0[0-9A-C]*dc*", "usb:v1234d0D00dcFF", false),
            ("x[!0-9]", "xa", true),
            ("x[^0-9]", "x5", false),
            ("x[]a]", "x]", true),
            ("x[", "x[", true),
            ("fs-ext4", "fs_ext4", true),
            ("x[a-]", "x-", true),
            ("acpi*:PNP0303:*", "acpi:PNP0303:", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_of_stars_ends_soon() {
        let pattern = "*a".repeat(200) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(20_000).as_bytes()));
    }
}
