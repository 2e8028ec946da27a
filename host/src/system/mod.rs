//! An installed Linux system below a directory, other than the running one: what it needs to boot.

pub mod glob;
mod grub;
mod kernel;
mod unready;

use std::path::Path;

pub use grub::{bios_setup, missing};
pub use kernel::{Kernel, default, module_of, plain};
pub use unready::{Unready, unready};

/// The systemd binary, present on every system that uses it.
const SYSTEMD: [&str; 2] = ["usr/lib/systemd/systemd", "lib/systemd/systemd"];

/// Whether the system below `root` uses systemd.
#[must_use]
pub fn runs_units(root: &Path) -> bool {
    SYSTEMD.iter().any(|systemd| root.join(systemd).exists())
}
