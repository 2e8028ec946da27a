//! Reduces the boot server's rights to what it needs, regardless of who starts it.
//!
//! It runs as root and talks to unknown machines. Its children cannot regain what it drops here.

use std::fs;
use std::io;

use rustix::process::geteuid;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

/// The rights it keeps: to give dnsmasq a directory (`CHOWN`, `FOWNER`), a user (`SETUID`, `SETGID`) and few
/// rights (`SETPCAP`), and to end it (`KILL`); and dnsmasq's own: low ports, ARP entries and the TFTP limits,
/// raw packets on one interface.
pub const NEEDED: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::NET_RAW);

/// Drops all other rights of this thread and of the threads and processes that it starts from now on.
///
/// # Errors
/// The system's error; some rights may already be dropped.
pub fn keep_needed() -> io::Result<()> {
    set_no_new_privs(true)?;
    if !geteuid().is_root() {
        return Ok(());
    }
    // The bounding set first: changing it needs a capability too, and a program started by root gets
    // everything in it.
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap")?;
    let last: u32 = last.trim().parse().map_err(io::Error::other)?;
    for number in 0..=last.min(63) {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if !NEEDED.contains(one) {
            remove_capability_from_bounding_set(one)?;
        }
    }
    let now = capabilities(None)?;
    let kept = now.permitted & NEEDED;
    Ok(set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )?)
}
