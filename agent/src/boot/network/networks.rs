//! The networks that a node may be in, tried in turn: each card with a carrier, and each DHCP server behind
//! it.
//!
//! A machine may have several wired cards, and a network several DHCP servers. Which of them leads to a
//! controller is known only after looking for one there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dhcp::{Asker, Granted, Renewal, Way};
use super::links::Links;
use super::probe::user_of;
use super::setting::Setting;
use super::{Network, NetworkError, SILENT_PORT, kernel, loopback_up};
use ka::cmdline::{Addressing, CommandLine, StaticAddress};
use ka::mac::Mac;
use ka_host::rtnetlink::{Link, Netlink};

/// How long to look for another network after one was found: every server has had time to answer.
const OTHERS: Duration = Duration::from_secs(10);

/// The networks of this machine.
pub struct Networks<'a> {
    line: &'a CommandLine,
    netlink: Netlink,
    links: Links,
    /// How long a switch port may block traffic after its carrier appears.
    silent: Duration,
    /// Those without a controller.
    vain: Vec<Way>,
}

impl<'a> Networks<'a> {
    /// Nothing is tried yet.
    ///
    /// # Errors
    /// [`NetworkError::Kernel`].
    pub fn open(line: &'a CommandLine) -> Result<Self, NetworkError> {
        Self::open_behind(line, SILENT_PORT)
    }

    /// The same, where a switch port blocks traffic for at most `silent` after its carrier appears.
    ///
    /// # Errors
    /// [`NetworkError::Kernel`].
    pub fn open_behind(line: &'a CommandLine, silent: Duration) -> Result<Self, NetworkError> {
        let mut netlink = Netlink::open().map_err(kernel("rtnetlink"))?;
        loopback_up(&mut netlink)?;
        Ok(Self { line, netlink, links: Links::new(line), silent, vain: Vec::new() })
    }

    /// Brings up the next network. `look_again` is called while no interface matches.
    ///
    /// # Errors
    /// [`NetworkError`]; [`NetworkError::NoOther`] when all have been tried.
    pub fn next(&mut self, look_again: &mut impl FnMut()) -> Result<Network, NetworkError> {
        let usable = self.links.wait(&mut self.netlink, look_again)?;
        match self.line.addressing {
            Addressing::Static(fixed) => self.fixed(usable, fixed),
            Addressing::Dhcp => self.granted(usable),
        }
    }

    /// The network has no controller: it is taken down and not brought up again.
    ///
    /// # Errors
    /// [`NetworkError::Kernel`].
    pub fn leave(&mut self, network: Network) -> Result<(), NetworkError> {
        let Network { link, setting, way, _renewal: renewal, .. } = network;
        drop(renewal);
        self.vain.push(way);
        setting.remove(&mut self.netlink, &link).map_err(kernel(format!("address of {}", link.name)))
    }

    /// Allows all networks to be tried again while a switch port may still block traffic; false when that
    /// time is over.
    pub fn again(&mut self) -> bool {
        self.vain.clear();
        self.links.may_be_silent(self.silent, Instant::now())
    }

    fn fixed(&mut self, usable: Vec<(Link, Mac)>, fixed: StaticAddress) -> Result<Network, NetworkError> {
        let way = |link: &Link| Way { card: link.index, server: None };
        let next = usable.into_iter().find(|(link, _)| !self.vain.contains(&way(link)));
        let (link, mac) = next.ok_or(NetworkError::NoOther)?;
        if let Some(other) = user_of(fixed.address, &link, mac) {
            log::warn!(
                "{}: {other} already uses the address {} (ka.address): give one of the two another address",
                link.name,
                fixed.address
            );
        }
        let way = way(&link);
        let setting = Setting {
            address: fixed.address,
            prefix: fixed.prefix,
            gateway: fixed.gateway,
            routes: Vec::new(),
            mtu: None,
        };
        self.set_up(&link, mac, setting, way)
    }

    /// Asks on all interfaces, including those whose carrier appears meanwhile.
    fn granted(&mut self, usable: Vec<(Link, Mac)>) -> Result<Network, NetworkError> {
        let start = Instant::now();
        let mut asker = Asker::default();
        for (link, mac) in &usable {
            asker.add(link, *mac)?;
        }
        log::info!("waiting for a DHCP server on {}", asker.interfaces());
        loop {
            let deadline = self.deadline(start);
            if let Some(granted) = asker.attempt(&self.vain, deadline)? {
                return self.keep(granted);
            }
            if Instant::now() >= deadline {
                return Err(match self.vain.as_slice() {
                    [] => asker.failure(start.elapsed()).into(),
                    _ => NetworkError::NoOther,
                });
            }
            log::info!(
                "no DHCP server has granted an address on {} after {} s; asking again, for {} s more",
                asker.interfaces(),
                start.elapsed().as_secs(),
                deadline.saturating_duration_since(Instant::now()).as_secs()
            );
            for (link, mac) in self.links.usable(&mut self.netlink)? {
                asker.add(&link, mac)?;
            }
        }
    }

    fn deadline(&self, start: Instant) -> Instant {
        if self.vain.is_empty() { start.max(self.links.last_carrier()) + self.silent } else { start + OTHERS }
    }

    fn keep(&mut self, granted: Granted) -> Result<Network, NetworkError> {
        let Granted { link, mac, lease, since } = granted;
        let way = lease.way(link.index);
        let mut network = self.set_up(&link, mac, lease.setting.clone(), way)?;
        network.hostname.clone_from(&lease.hostname);
        network.next_server = lease.next_server;
        network._renewal = Renewal::start(link, mac, lease, since)
            .map_err(kernel("thread that renews the lease"))?
            .map(Arc::new);
        Ok(network)
    }

    fn set_up(&mut self, link: &Link, mac: Mac, setting: Setting, way: Way) -> Result<Network, NetworkError> {
        log::info!("network interface {} ({mac})", link.name);
        setting.apply(&mut self.netlink, link).map_err(kernel(format!("address of {}", link.name)))?;
        Ok(Network {
            interface: link.name.clone(),
            mac,
            address: setting.address,
            prefix: setting.prefix,
            gateway: setting.gateway,
            hostname: None,
            next_server: None,
            link: link.clone(),
            setting,
            way,
            _renewal: None,
        })
    }
}
