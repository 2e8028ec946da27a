//! What the files of the copied system contain: names of file systems and disks, network, identity.

pub(super) mod bls;
pub(super) mod debconf;
pub(super) mod encoded;
pub(super) mod fstab;
pub(super) mod hostname;
pub(super) mod hosts;
pub(super) mod identity;
pub(super) mod lvm;
pub(super) mod modprobe;
pub(super) mod names;
pub(super) mod network;
pub(super) mod options;
pub(super) mod references;
pub(super) mod strangers;
pub(super) mod swap_files;
