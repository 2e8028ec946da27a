//! Field values: numbers with suffixes, attributes, names.

use super::super::description::Length;
use super::super::problem::Problem;

/// The named attributes, by bit (UEFI specification, 5.3.3).
pub(super) const ATTRIBUTES: [(&str, u32); 3] =
    [("RequiredPartition", 0), ("NoBlockIOProtocol", 1), ("LegacyBIOSBootable", 2)];

/// A number as in strtoumax(3): decimal, hexadecimal after `0x`, octal after `0`.
pub(super) fn integer(text: &str) -> Option<u64> {
    let (digits, radix) = if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        (hex, 16)
    } else if text.len() > 1 && text.starts_with('0') {
        (text, 8)
    } else {
        (text, 10)
    };
    // The standard library accepts a sign; it is not a digit here.
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// A disk signature: hexadecimal with `0x`, or decimal.
pub(super) fn signature(text: &str) -> Option<u32> {
    integer(text).and_then(|number| u32::try_from(number).ok())
}

/// A number of sectors, or of bytes if it has a suffix.
pub(super) fn length(text: &str) -> Option<Length> {
    if let Some(sectors) = integer(text) {
        return Some(Length::Sectors(sectors));
    }
    // Half a KiB is the smallest unit: a size that is not a whole number of sectors is rounded up.
    bytes(text).and_then(|bytes| bytes.checked_next_multiple_of(512)).map(Length::Bytes)
}

/// A number of bytes with a suffix: `500M` and `500MiB` are 500 * 2^20, `500MB` is 500 * 10^6; `1.5G` is
/// accepted too.
pub(super) fn bytes(text: &str) -> Option<u64> {
    if let Some(bytes) = integer(text) {
        return Some(bytes);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let mut letters = suffix.chars();
    let power = "KMGTPEZY".find(letters.next()?.to_ascii_uppercase())? + 1;
    let base: u128 = match letters.as_str().to_ascii_lowercase().as_str() {
        "" | "ib" => 1024,
        "b" => 1000,
        _ => return None,
    };
    let unit = base.checked_pow(u32::try_from(power).ok()?)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 || number.ends_with('.') {
        return None;
    }
    let mut bytes = u128::from(integer(whole)?).checked_mul(unit)?;
    if !fraction.is_empty() {
        let ten = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        bytes = bytes.checked_add(fraction.parse::<u128>().ok()?.checked_mul(unit)?.div_ceil(ten))?;
    }
    u64::try_from(bytes).ok()
}

/// Attributes as sfdisk writes them: names, and `GUID:` with bits from 48; bare bit numbers are accepted too.
pub(super) fn attributes(text: &str) -> Result<u64, Problem> {
    let mut bits = 0;
    for word in text.split([',', ' ', '\t']).filter(|word| !word.is_empty()) {
        let unknown = || Problem::Attribute(word.to_owned());
        let named = ATTRIBUTES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, bit)| *bit);
        let number = word.strip_prefix("GUID:").unwrap_or(word);
        let bit = named.or_else(|| number.parse().ok().filter(|_| !number.starts_with('+')));
        bits |= bit.and_then(|bit| 1_u64.checked_shl(bit)).ok_or_else(unknown)?;
    }
    Ok(bits)
}

/// The attributes in sfdisk's form.
pub(super) fn attributes_text(bits: u64) -> String {
    let named = ATTRIBUTES.iter().filter(|(_, bit)| bits >> bit & 1 == 1).map(|(name, _)| (*name).to_owned());
    let mut words: Vec<_> = named.collect();
    let others: Vec<_> = (3..64).filter(|bit| bits >> bit & 1 == 1).map(|bit: u32| bit.to_string()).collect();
    if !others.is_empty() {
        words.push(format!("GUID:{}", others.join(",")));
    }
    words.join(" ")
}

/// A name with bytes escaped as `\x2c`.
pub(super) fn name(text: &str) -> Result<String, Problem> {
    let wrong = || Problem::Name(text.to_owned());
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        let hex = rest.get(at + 2..at + 4).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) else { return Err(wrong()) };
        bytes.extend_from_slice(rest.get(..at).unwrap_or_default().as_bytes());
        bytes.push(byte);
        rest = rest.get(at + 4..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// A name as sfdisk writes it in quotation marks.
pub(super) fn name_text(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'`' | b'$' | 0..0x20 | 0x7f.. => format!("\\x{byte:02x}"),
            _ => char::from(byte).to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_suffixes_and_bases() {
        let table = [
            ("2048", Some(Length::Sectors(2048))),
            ("0x800", Some(Length::Sectors(2048))),
            ("010", Some(Length::Sectors(8))),
            ("0", Some(Length::Sectors(0))),
            ("500M", Some(Length::Bytes(500 << 20))),
            ("500MiB", Some(Length::Bytes(500 << 20))),
            ("1k", Some(Length::Bytes(1024))),
            ("1KB", Some(Length::Bytes(1024))),
            ("2TB", Some(Length::Bytes(2_000_000_000_000))),
            ("1.5G", Some(Length::Bytes(3 << 29))),
            ("16EiB", None),
            ("08", None),
            ("+5", None),
            ("-5", None),
            ("5X", None),
            ("5 M", None),
            (".5M", None),
            ("1.M", None),
            ("M", None),
            ("", None),
            ("é", None),
            ("1é", None),
        ];
        for (text, expected) in table {
            assert_eq!(length(text), expected, "{text}");
        }
    }

    #[test]
    fn attributes_are_read_and_written_as_sfdisk_does() {
        let table = [("RequiredPartition GUID:60,63", 1 | 9 << 60), ("LegacyBIOSBootable", 4), ("", 0)];
        for (text, bits) in table {
            assert_eq!(attributes(text), Ok(bits));
            assert_eq!(attributes_text(bits), text);
        }
        assert_eq!(attributes("requiredpartition,48"), Ok(1 | 1 << 48));
        assert!(attributes("GUID:64").is_err() && attributes("+3").is_err() && attributes("x").is_err());
    }

    #[test]
    fn names_survive_their_marks() {
        assert_eq!(name(r"a\xc3\xa9 b\x22"), Ok("aé b\"".to_owned()));
        assert_eq!(name_text("aé b\""), r"a\xc3\xa9 b\x22");
        assert!(name(r"\xff").is_err() && name(r"\x").is_err() && name(r"\x4é").is_err());
    }
}
