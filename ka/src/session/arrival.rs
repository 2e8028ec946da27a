//! A machine that has joined and waits to be admitted.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::inventory::Inventory;
use crate::keys::Key;
use crate::mac::Mac;
use crate::shown;

/// How many of the hosts that claim one machine's address are listed.
const MAX_CLAIMS: usize = 8;

/// A waiting machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The card from which it booted.
    pub mac: Mac,
    /// Its address.
    pub address: IpAddr,
    /// Its agent's key for this boot: a host with another key is another machine, whatever it claims to be.
    pub key: Key,
    /// Its hardware, and the contents of its disks.
    pub inventory: Arc<Inventory>,
    /// Other hosts that claim to be this machine.
    pub claimed_by: BTreeSet<IpAddr>,
}

impl Arrival {
    /// Why the machine cannot be identified, if that is the case.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        let (address, others) = (self.address, shown::some(&self.claimed_by, MAX_CLAIMS));
        (!self.claimed_by.is_empty()).then(|| {
            format!("{address} and {others} both claim this hardware address: find out which one has it")
        })
    }
}
