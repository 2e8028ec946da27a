//! Every machine that has ever joined a run: what it is, where it was, and what became of it.
//!
//! `/var/lib/ka/machines/` has one JSON file per machine, named by its hardware address. The hub writes them while
//! runs go on ([`recorder`]); `kactl machines`, the console and `kactl power` read them. A machine's key of its last boot
//! is in its file: by that its console knows the controller, and the controller the machine.

pub mod find;
pub mod record;
pub mod recorder;
pub mod store;
