//! The project's only `unsafe`: ioctls and sockets that no library offers.
#![allow(unsafe_code)]

pub mod block;
pub mod btrfs;
pub mod freeze;
pub mod inode;
pub mod kexec;
pub mod local_time;
pub mod loops;
pub mod mount;
pub mod packet;
pub mod queue;
pub mod session;
pub mod signals;
pub mod spawn;
pub mod sync_range;
