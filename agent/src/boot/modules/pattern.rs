//! The patterns of `modules.alias`, by which a driver names the devices that it supports.

use ka::glob;

/// Whether `text` matches `pattern` as in fnmatch(3). As in modprobe, `-` and `_` are equal outside of
/// brackets.
#[must_use]
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    glob::fits(pattern, text, |wanted, found| same(wanted) == same(found))
}

fn same(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_match_as_by_modprobe() {
        for (pattern, text, expected) in [
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
            ("fs-ext4", "fs_ext4", true),
            ("x[a-]", "x-", true),
            ("acpi*:PNP0303:*", "acpi:PNP0303:", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
