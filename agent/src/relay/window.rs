//! How much memory this machine gives to a stream's window.

use ka::chain::MIN_WINDOW;

/// The most that is worth keeping: two seconds of a line of 1 Gbit/s.
const MOST: u64 = 256 * 1024 * 1024;

/// A quarter of the memory, at most 256 MiB, in bytes.
#[must_use]
pub fn default_size() -> u64 {
    let info = rustix::system::sysinfo();
    // The system's numbers are shorter on a machine of 32 bits.
    #[allow(clippy::useless_conversion)]
    let memory = u64::from(info.totalram).saturating_mul(u64::from(info.mem_unit));
    (memory / 4).clamp(MIN_WINDOW, MOST)
}
