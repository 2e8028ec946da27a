//! Reads and changes a Linux machine, for the golden node and the nodes alike.
//!
//! Everything here works on the running machine, or on a system below a directory: sysfs, proc, blkid(8),
//! rtnetlink(7), other tools. [`sys`] holds the project's only `unsafe`. Policy (what is refused, what is
//! planned) is in `ka`; what a node does is in `ka-agent`, what the golden node does is in `kactl`.
//!
//! ```
//! // The disks of this machine, as the kernel shows them, without a look at their contents.
//! for disk in ka_host::hardware::disks(false) {
//!     println!("{} {} bytes {}", disk.name, disk.size, disk.model);
//! }
//! ```
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod atomic;
pub mod blkid;
pub mod bus;
pub mod guarded;
pub mod hardware;
pub mod health;
pub mod loops;
pub mod mountinfo;
pub mod namespaces;
pub mod openers;
pub mod ports;
pub mod rtnetlink;
pub mod secrets;
pub mod sys;
pub mod sysfs;
pub mod system;
pub mod terminal;
pub mod tool;
pub mod tpm;
pub mod usage;
pub mod words;
pub mod xattrs;
