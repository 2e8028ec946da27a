//! Admission control for a run: only machines that `kactl pxe` booted for it, where that can be known.
//!
//! A run's join secret is in the boot image that is served while the run lives, and ends with it. A machine
//! that shows the long-lived secret did not boot that image and is rejected. A machine that claims a card
//! must have the address that the card was given.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ka::mac::Mac;

/// The requirements that a machine must meet before its messages are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Accept only the run's own secret.
    pub own_secret: bool,
    /// The file in which dnsmasq records the leases, if dnsmasq assigns all addresses.
    pub leases: Option<PathBuf>,
}

impl Entry {
    /// Checks whether a machine may join; `own_secret` says whether it showed the run's own secret.
    ///
    /// # Errors
    /// The reason for the rejection.
    pub(super) fn check(&self, own_secret: bool, peer: IpAddr, card: Option<Mac>) -> Result<(), String> {
        if self.own_secret && !own_secret {
            return Err("it takes only machines that 'kactl pxe' has booted for it".into());
        }
        match (&self.leases, peer) {
            (Some(leases), IpAddr::V4(_)) => check_lease(leases, peer, card),
            _ => Ok(()),
        }
    }
}

fn check_lease(leases: &Path, peer: IpAddr, card: Option<Mac>) -> Result<(), String> {
    let text = match fs::read_to_string(leases) {
        Ok(text) => text,
        Err(error) => {
            log::warn!("{}: {error}: cannot check which machine has which address", leases.display());
            return Ok(());
        }
    };
    let Some(owner) = owner(&text, peer) else {
        return Err(format!("'kactl pxe' has not assigned the address {peer}"));
    };
    match (owner.parse::<Mac>(), card) {
        (Ok(owner), Some(card)) if owner != card => {
            Err(format!("it claims the card {card}, but 'kactl pxe' has assigned {peer} to {owner}"))
        }
        _ => Ok(()),
    }
}

/// The owner of an address. Each line is `EXPIRY CARD ADDRESS NAME ID` (dnsmasq(8), --dhcp-leasefile).
fn owner(leases: &str, peer: IpAddr) -> Option<&str> {
    leases.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (card, address) = (words.next()?, words.next()?);
        (address.parse() == Ok(peer)).then_some(card)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASES: &str = "1790000000 52:54:00:00:00:01 10.0.0.101 node1 01:52:54:00:00:00:01\n\
                          0 52:54:00:00:00:02 10.0.0.102 * *\n\
                          1790000000 20-80:00:02:08:fe:80 10.0.0.103 ib0 *\n\
                          duid 00:01:00:01\n";

    #[test]
    fn only_who_was_booted_for_the_run_comes_in() {
        let dir = tempfile::tempdir().unwrap();
        let leases = dir.path().join("leases");
        fs::write(&leases, LEASES).unwrap();
        let entry = Entry { own_secret: true, leases: Some(leases) };
        let mac = |last: u8| format!("52:54:00:00:00:{last:02x}").parse::<Mac>().ok();
        for (secret, address, card, comes) in [
            (true, "10.0.0.101", mac(1), true),
            (true, "10.0.0.102", mac(2), true),
            (false, "10.0.0.101", mac(1), false),
            // The machine claims another machine's card, or assigned itself an address.
            (true, "10.0.0.101", mac(2), false),
            (true, "10.0.0.1", mac(1), false),
            // A card without such an address, such as InfiniBand's, is known only by its IP address.
            (true, "10.0.0.103", None, true),
            (true, "10.0.0.103", mac(9), true),
            (true, "fe80::1", mac(9), true),
        ] {
            let outcome = entry.check(secret, address.parse().unwrap(), card);
            assert_eq!(outcome.is_ok(), comes, "{address} {card:?}: {outcome:?}");
        }
        let open = Entry::default();
        assert_eq!(open.check(false, "10.0.0.1".parse().unwrap(), None), Ok(()));
    }
}
