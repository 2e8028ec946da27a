//! The finish of a copied system with stand-ins for its tools, in a real chroot with a real disk: one file
//! per boot loader, one for the initrd, and one for the node's own identity.
//!
//! Needs root, loop devices, and Debian's busybox-static. The real tools are tested in virtual machines.
#![allow(clippy::unwrap_used, reason = "clippy takes helpers of tests for production code")]

mod copied;
mod extlinux;
mod grub;
mod grub_legacy;
mod initrd;
mod lilo;
mod node;
mod systemd_boot;
