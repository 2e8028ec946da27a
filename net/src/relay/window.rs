//! How much memory this machine gives to a stream's window.

use ka::chain::MIN_WINDOW;

/// The most that is worth keeping: two seconds of a line of 1 Gbit/s.
const MAX_WINDOW: u64 = 256 * 1024 * 1024;

/// A quarter of the memory, at most 256 MiB, in bytes.
#[must_use]
pub fn default_size() -> u64 {
    let info = rustix::system::sysinfo();
    // The system's numbers are shorter on a machine of 32 bits.
    #[allow(clippy::useless_conversion)]
    let memory = u64::from(info.totalram).saturating_mul(u64::from(info.mem_unit));
    (memory / 4).clamp(MIN_WINDOW, MAX_WINDOW)
}

/// Reads a window's size: bytes, with K, M or G for powers of 1024; at least 8M.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn parse(text: &str) -> Result<u64, String> {
    let (digits, shift) = [("K", 10), ("M", 20), ("G", 30)]
        .into_iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
        .unwrap_or((text, 0));
    let number: u64 = digits.parse().map_err(|_| "a size is a number of bytes, or 8M, 1G".to_owned())?;
    let size = number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())?;
    if size < MIN_WINDOW {
        return Err(format!("a window has at least {}M", MIN_WINDOW >> 20));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, size) in [("8M", 8 << 20), ("8388608", 8 << 20), ("1G", 1 << 30), ("16384K", 16 << 20)] {
            assert_eq!(parse(text), Ok(size), "{text}");
        }
        for text in ["", "M", "8388607", "7M", "-8M", "8MB", "8.5M", "99999999999G", "18446744073709551616"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
