//! What starts the copied system: its initrds, its boot loader, and the entry in the firmware's menu.

pub(super) mod efi;
pub(super) mod initrd;
pub(super) mod loader;
