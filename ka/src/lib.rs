//! The KA method as a library without I/O.
//!
//! Nothing here uses a socket, a clock or a device: state machines take events and bytes, and return actions
//! and bytes. The agent and the controller are shells around it, and the tests drive the same code with
//! generated faults.
//!
//! The chain is in [`chain`], the stream's encryption in [`seal`], the wire formats in [`wire`] and
//! [`archive`], disks in [`disk`], and a run's plan for a node in [`plan`]:
//!
//! ```
//! use ka::disk::description::Description;
//!
//! let text = "linux 3500\nextended fill\nlogical swap 500\nlogical linux fill\n";
//! let desc = Description::parse(text, "desc")?;
//! let numbers: Vec<u32> = desc.entries().iter().map(|entry| entry.number).collect();
//! assert_eq!(numbers, [1, 2, 5, 6]);
//! # Ok::<(), ka::disk::problem::DescError>(())
//! ```
#![forbid(unsafe_code)]

pub mod arch;
pub mod archive;
pub mod boot;
pub mod chain;
pub mod cmdline;
pub mod disk;
pub mod failure;
pub mod first_boot;
pub mod glob;
pub mod hostname;
pub mod inventory;
pub mod ipv4;
pub mod keys;
pub mod letter_case;
pub mod log_server;
pub mod mac;
pub mod menu;
pub mod notes;
pub mod plan;
mod primitives;
pub mod proof;
pub mod seal;
pub mod session;
pub mod sha256;
pub mod shown;
pub mod step;
pub mod tpm;
pub mod wire;
