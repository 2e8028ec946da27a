//! How nodes and the processes on this host find a run: leases, sessions, broadcasts, first boots.

pub mod booted;
pub mod discovery;
pub mod go;
pub mod lease;
pub mod registry;
