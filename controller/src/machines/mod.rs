//! Records every machine that has ever joined a run: its identity, its last address, and its outcome.
//!
//! `/var/lib/ka/machines/` has one JSON file per machine, named after its hardware address. The hub writes
//! the files during runs ([`recorder`]); `kactl machines`, the console and `kactl power` read them. A
//! machine's file contains its key of the last boot: it lets the machine's console and the controller
//! recognise each other.

pub mod find;
pub mod pins;
pub mod record;
pub mod recorder;
pub mod store;
