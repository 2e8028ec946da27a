//! A Linux system below a directory: what it has to be booted with. It is not the one that runs.

pub mod glob;
mod grub;
mod kernel;
mod unready;

use std::path::Path;

pub use grub::{BIOS_MODULES, BIOS_SETUP, UEFI_MODULES, missing};
pub use kernel::{Kernel, default, module_of, plain};
pub use unready::{Unready, unready};

/// systemd is what runs units; it is here on every system that has it.
const SYSTEMD: [&str; 2] = ["usr/lib/systemd/systemd", "lib/systemd/systemd"];

/// Whether the system below `root` has systemd.
#[must_use]
pub fn runs_units(root: &Path) -> bool {
    SYSTEMD.iter().any(|systemd| root.join(systemd).exists())
}
