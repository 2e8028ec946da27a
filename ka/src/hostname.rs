//! Host names as defined by hostname(7).

/// The longest name that Linux accepts (`HOST_NAME_MAX` of gethostname(2)).
pub const MAX_LENGTH: usize = 64;

/// Whether this can be a machine's name, with or without its domain. RFC 1123 does not allow `_` in a host
/// name, but some machines have it.
#[must_use]
pub fn is_valid(name: &str) -> bool {
    let good = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    name.len() <= MAX_LENGTH && name.split('.').all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["node7", "n-1.rack_2.example.org", "7", &"x".repeat(64)] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "a b", "-a", "a-", "a..b", "ä", &"x".repeat(65), "a/b", "a\nb", "."] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
