//! A machine that has joined and waits.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::inventory::Inventory;
use crate::keys::Key;
use crate::mac::Mac;
use crate::shown;

/// So many hosts that claim one machine's address are named.
const MAX_CLAIMS: usize = 8;

/// A machine that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The card that it booted from.
    pub mac: Mac,
    /// Its address.
    pub address: IpAddr,
    /// Its agent's key of this boot: whoever has another one is another machine, whatever it claims to be.
    pub key: Key,
    /// What it is, and what is on its disks.
    pub inventory: Arc<Inventory>,
    /// Other hosts that claim to be this machine.
    pub claimed_by: BTreeSet<IpAddr>,
}

impl Arrival {
    /// Why nobody can tell which machine it is, if that is so.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        let (address, others) = (self.address, shown::some(&self.claimed_by, MAX_CLAIMS));
        (!self.claimed_by.is_empty()).then(|| {
            format!("{address} and {others} both claim this hardware address: find out which has it")
        })
    }
}
