//! Parses a disk choice from the command line.

use super::{DiskChoice, Expect};
use std::str::FromStr;

/// Why a choice cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseChoiceError {
    /// Not a disk's name.
    #[error("expected a disk such as `sda`, `sda:size=480G`, `auto` or `by-id:PATTERN`, found `{0}`")]
    Name(String),
    /// An unknown attribute.
    #[error("expected `size=`, `model=` or `serial=` after the disk's name, found `{0}`")]
    Fact(String),
    /// A repeated attribute.
    #[error("`{0}` is given twice")]
    Twice(String),
    /// Not a size.
    #[error("expected a size such as `480G`, `1.92T` or `447GiB`, found `{0}`")]
    Size(String),
}

impl FromStr for DiskChoice {
    type Err = ParseChoiceError;

    /// `auto` is completed later with the golden disk's properties.
    fn from_str(text: &str) -> Result<Self, ParseChoiceError> {
        if text == "auto" {
            return Ok(Self::Auto { bus: String::new(), size: 0, except: Vec::new() });
        }
        let by_id = text.strip_prefix("by-id:").or_else(|| text.strip_prefix("/dev/disk/by-id/"));
        if let Some(pattern) = by_id {
            return match pattern {
                "" => Err(ParseChoiceError::Name(text.to_owned())),
                _ => Ok(Self::ById(pattern.to_owned())),
            };
        }
        // A path in /dev may contain colons, as in by-path names.
        let (name, facts) = match text.strip_prefix("/dev/") {
            Some(name) if name.contains('/') => (text, None),
            other => match other.unwrap_or(text).split_once(':') {
                Some((name, facts)) => (name, Some(facts)),
                None => (other.unwrap_or(text), None),
            },
        };
        if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(ParseChoiceError::Name(text.to_owned()));
        }
        Ok(Self::Name { name: name.to_owned(), expect: facts.map(expect).transpose()?.unwrap_or_default() })
    }
}

fn expect(facts: &str) -> Result<Expect, ParseChoiceError> {
    let mut expect = Expect::default();
    for fact in facts.split(',') {
        let unknown = || ParseChoiceError::Fact(fact.to_owned());
        let (key, value) = fact.split_once('=').filter(|(_, value)| !value.is_empty()).ok_or_else(unknown)?;
        let was_said = match key {
            "size" => expect.size.replace(size(value)?).is_some(),
            "model" => expect.model.replace(value.to_owned()).is_some(),
            "serial" => expect.serial.replace(value.to_owned()).is_some(),
            _ => return Err(unknown()),
        };
        if was_said {
            return Err(ParseChoiceError::Twice(key.to_owned()));
        }
    }
    Ok(expect)
}

/// A number with at most 6 decimals and a unit: `G` and `GB` are 10^9 bytes, `Gi` and `GiB` 2^30.
fn size(text: &str) -> Result<u64, ParseChoiceError> {
    parse_size(text).ok_or_else(|| ParseChoiceError::Size(text.to_owned()))
}

/// Bytes of a size as people write them: `480G` is 480 * 10^9, `1.5GiB` 1.5 * 2^30.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit: u128 = match unit {
        "" | "B" => 1,
        "K" | "KB" | "kB" | "k" => 1000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "T" | "TB" => 1_000_000_000_000,
        "Ki" | "KiB" => 1 << 10,
        "Mi" | "MiB" => 1 << 20,
        "Gi" | "GiB" => 1 << 30,
        "Ti" | "TiB" => 1 << 40,
        _ => return None,
    };
    const DECIMALS: u32 = 6;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let places = u32::try_from(decimals.len()).ok().filter(|places| (1..=DECIMALS).contains(places))?;
    let decimals = decimals.parse::<u128>().ok()?.checked_mul(10_u128.pow(DECIMALS - places))?;
    let millionths = u128::from(whole.parse::<u64>().ok()?) * 10_u128.pow(DECIMALS) + decimals;
    u64::try_from(millionths.checked_mul(unit)? / 10_u128.pow(DECIMALS)).ok().filter(|size| *size > 0)
}
