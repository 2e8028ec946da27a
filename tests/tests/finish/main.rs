//! The finish of a copied system whose tools are stand-ins, in a real chroot with a real disk: one file per boot loader,
//! and one each for the initrd and for what makes a node itself.
//!
//! Needs root, loop devices, and Debian's busybox-static. The true tools are tried in virtual machines.
#![allow(clippy::unwrap_used, reason = "clippy takes helpers of tests for production code")]

mod copied;
mod extlinux;
mod grub;
mod grub_legacy;
mod initrd;
mod lilo;
mod node;
mod systemd_boot;
