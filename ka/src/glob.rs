//! Shell patterns.

/// Whether `text` matches `pattern` as in fnmatch(3): `*`, `?` and `[…]` (with ranges, and `!` or `^` first
/// for "none of these"). `same` decides which other bytes equal those of the pattern, outside of brackets. A
/// `?` matches one byte.
///
/// The running time is at most proportional to the product of both lengths, whatever the pattern.
#[must_use]
pub fn fits(pattern: &[u8], text: &[u8], same: impl Fn(u8, u8) -> bool) -> bool {
    let (mut p, mut t) = (0, 0);
    // The position after the last `*` so far, and the end of the text that it has matched. Only the last one
    // ever needs another try, because an earlier one gains nothing by matching more.
    let mut star: Option<(usize, usize)> = None;
    while let Some(&byte) = text.get(t) {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
        } else if let Some(next) = one(pattern, p, byte, &same) {
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
    pattern.iter().skip(p).all(|&b| b == b'*')
}

/// Like [`fits`], with exact comparison of bytes.
#[must_use]
pub fn fits_exactly(pattern: &str, text: &str) -> bool {
    fits(pattern.as_bytes(), text.as_bytes(), |wanted, found| wanted == found)
}

/// The next position in the pattern if its element at `p` matches the byte.
fn one(pattern: &[u8], p: usize, byte: u8, same: impl Fn(u8, u8) -> bool) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => match set(pattern.get(p + 1..).unwrap_or_default()) {
            Some((members, length)) => in_set(members, byte).then_some(p + 1 + length),
            None => (byte == b'[').then_some(p + 1),
        },
        literal => same(literal, byte).then_some(p + 1),
    }
}

/// The bytes between the brackets, and the length up to and including the closing one. A `]` in first place
/// (after `!`) is a member.
fn set(rest: &[u8]) -> Option<(&[u8], usize)> {
    let first = usize::from(matches!(rest.first(), Some(b'!' | b'^')));
    let close = rest.iter().skip(first + 1).position(|&b| b == b']')? + first + 1;
    Some((rest.get(..close)?, close + 1))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_by_fnmatch() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("*", "", true),
            ("***", "", true),
            ("a*", "a", true),
            ("*a*b", "xaxxb", true),
            ("*a*b", "xaxxbx", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*_1?3", "X_123", true),
            ("*_1?3", "X_13", false),
            ("ata-*", "nvme-X", false),
            ("usb:v*d0[0-9A-C]*dc*", "usb:v1234d0B00dcFF", true),
            ("usb:v*d0[0-9A-C]*dc*", "usb:v1234d0D00dcFF", false),
            ("x[!0-9]", "xa", true),
            ("x[^0-9]", "x5", false),
            ("x[]a]", "x]", true),
            ("x[", "x[", true),
            ("x[a-]", "x-", true),
            ("fs-ext4", "fs_ext4", false),
        ] {
            assert_eq!(fits_exactly(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        assert!(!fits_exactly(&("*a".repeat(200) + "b"), &"a".repeat(20_000)));
        assert!(!fits_exactly(&"*a".repeat(200), &"a".repeat(199)));
    }
}
