//! Which interfaces to use, and when they have a carrier.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{CARRIER_PATIENCE, NetworkError, kernel};
use ka::cmdline::{CommandLine, Interface};
use ka::mac::Mac;
use ka_host::rtnetlink::{Link, Netlink};

/// How long the boot loader's card may take to appear before others count. Docking station drivers take
/// several seconds.
const OWN_CARD_FIRST: Duration = Duration::from_secs(10);

/// A carrier that comes later than this after the start does not extend the wait.
const LATEST_CARRIER: Duration = Duration::from_secs(180);

/// The maximum length of an interface name.
const MAX_NAME: usize = 15;

/// The usable interfaces, updated repeatedly.
#[derive(Debug)]
pub(super) struct Links {
    wanted: Wanted,
    vlan: Option<u16>,
    start: Instant,
    /// Those that were set up.
    raised: Vec<u32>,
    /// VLAN interfaces, by the index of the link below.
    vlans: BTreeMap<u32, String>,
    /// When each was first seen with its current carrier, and the carrier's number.
    carriers: BTreeMap<u32, (u32, Instant)>,
    strangers: bool,
}

impl Links {
    pub(super) fn new(line: &CommandLine) -> Self {
        Self {
            wanted: Wanted::from(line),
            vlan: line.vlan,
            start: Instant::now(),
            raised: Vec::new(),
            vlans: BTreeMap::new(),
            carriers: BTreeMap::new(),
            strangers: false,
        }
    }

    /// Waits until at least one has a carrier. `look_again` is called while none matches.
    pub(super) fn wait(
        &mut self,
        netlink: &mut Netlink,
        look_again: &mut impl FnMut(),
    ) -> Result<Vec<(Link, Mac)>, NetworkError> {
        let mut told = None;
        loop {
            let usable = self.usable(netlink)?;
            if !usable.is_empty() {
                return Ok(usable);
            }
            let links = netlink.links().map_err(kernel("list of network interfaces"))?;
            let fitting: Vec<&Link> = links.iter().filter(|link| self.fits(link)).collect();
            if self.start.elapsed() >= CARRIER_PATIENCE {
                let names: Vec<&str> = fitting.iter().map(|link| link.name.as_str()).collect();
                return Err(match names.as_slice() {
                    [] => self.wanted.nobody(&links),
                    names => NetworkError::NoCarrier { interfaces: names.join(", ") },
                });
            }
            if told.is_none_or(|told: Instant| told.elapsed() >= TELL_EVERY) {
                told = Some(Instant::now());
                self.tell(&fitting);
            }
            if fitting.is_empty() {
                look_again();
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Those with a carrier now. Sets up every link that may get one.
    pub(super) fn usable(&mut self, netlink: &mut Netlink) -> Result<Vec<(Link, Mac)>, NetworkError> {
        let links = netlink.links().map_err(kernel("list of network interfaces"))?;
        self.consider_strangers(&links);
        let fitting: Vec<&Link> = links.iter().filter(|link| self.fits(link)).collect();
        for link in &fitting {
            self.raise(netlink, link);
        }
        let mut with_carrier: Vec<Link> = fitting.into_iter().filter(|link| link.carrier).cloned().collect();
        // The boot loader's card takes precedence over all others.
        with_carrier.sort_by_key(|link| !self.wanted.fits(link));
        if let Some(vlan) = self.vlan {
            with_carrier = self.tagged(netlink, &links, &with_carrier, vlan)?;
        }
        for link in &with_carrier {
            self.note_carrier(link, Instant::now());
        }
        Ok(with_carrier.into_iter().filter_map(|link| Some((link.clone(), link.mac?))).collect())
    }

    /// When the last of them got its carrier. A carrier that drops and returns counts again, because the
    /// switch port starts over too. One that never becomes stable must not be waited for endlessly.
    pub(super) fn last_carrier(&self) -> Instant {
        let last = self.carriers.values().map(|(_, since)| *since).max();
        last.unwrap_or(self.start).min(self.start + LATEST_CARRIER)
    }

    /// Whether a switch port may still block traffic, if it does so for at most `silent` after its carrier
    /// appears.
    pub(super) fn may_be_silent(&self, silent: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.last_carrier()) < silent
    }

    fn note_carrier(&mut self, link: &Link, now: Instant) {
        let (times, since) = self.carriers.entry(link.index).or_insert((link.carrier_ups, now));
        if *times != link.carrier_ups {
            log::info!("{}: the carrier was lost for a moment", link.name);
            (*times, *since) = (link.carrier_ups, now);
        }
    }

    fn fits(&self, link: &Link) -> bool {
        let own = self.vlans.values().any(|name| *name == link.name);
        !own && (self.wanted.fits(link) || self.strangers && Wanted::Any.fits(link))
    }

    /// A docking station or USB adapter may show one hardware address to the network ROM and another to the
    /// kernel.
    fn consider_strangers(&mut self, links: &[Link]) {
        let Wanted::Mac(mac) = self.wanted else { return };
        let own: Vec<&Link> = links.iter().filter(|link| self.wanted.fits(link)).collect();
        let patience = if own.is_empty() { OWN_CARD_FIRST } else { CARRIER_PATIENCE / 2 };
        if self.strangers
            || self.start.elapsed() < patience
            || own.iter().any(|link| link.carrier)
            || !links.iter().any(|link| Wanted::Any.fits(link) && !own.contains(&link))
        {
            return;
        }
        let why = if own.is_empty() { "no card has it" } else { "that card has no carrier" };
        log::warn!(
            "the boot loader used the card {mac} (BOOTIF), but {why}: any other with a carrier is used"
        );
        self.strangers = true;
    }

    fn raise(&mut self, netlink: &mut Netlink, link: &Link) {
        if self.raised.contains(&link.index) {
            return;
        }
        self.raised.push(link.index);
        // For example, a card without firmware. Others may work.
        if let Err(e) = netlink.set_up(link.index) {
            log::warn!("cannot set up {}: {e}", link.name);
        }
    }

    /// The interfaces for tagged frames above `below` that have a carrier.
    fn tagged(
        &mut self,
        netlink: &mut Netlink,
        links: &[Link],
        below: &[Link],
        vlan: u16,
    ) -> Result<Vec<Link>, NetworkError> {
        let mut tagged = Vec::new();
        for link in below {
            let name = self.vlans.entry(link.index).or_insert_with(|| vlan_name(link, vlan)).clone();
            match links.iter().find(|link| link.name == name) {
                Some(link) if link.carrier => tagged.push(link.clone()),
                Some(link) => self.raise(netlink, link),
                None => netlink
                    .add_vlan(link.index, &name, vlan)
                    .map_err(kernel(format!("VLAN {vlan} on {} (kernel module 8021q)", link.name)))?,
            }
        }
        Ok(tagged)
    }

    fn tell(&self, fitting: &[&Link]) {
        let left = CARRIER_PATIENCE.saturating_sub(self.start.elapsed()).as_secs();
        if fitting.is_empty() {
            log::info!("waiting for a network interface {}, {left} s more", self.wanted);
        } else {
            let names: Vec<&str> = fitting.iter().map(|link| link.name.as_str()).collect();
            log::info!("waiting for a carrier on {}, {left} s more", names.join(", "));
        }
    }
}

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often to log what is being waited for.
const TELL_EVERY: Duration = Duration::from_secs(10);

fn vlan_name(link: &Link, vlan: u16) -> String {
    let name = format!("{}.{vlan}", link.name);
    if name.len() <= MAX_NAME { name } else { format!("v{}.{vlan}", link.index) }
}

/// Which links may be used.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Mac(Mac),
    Name(String),
    Any,
}

impl From<&CommandLine> for Wanted {
    fn from(line: &CommandLine) -> Self {
        match (line.bootif, &line.interface) {
            (Some(mac), _) => Self::Mac(mac),
            (None, Interface::Name(name)) => Self::Name(name.clone()),
            (None, Interface::Auto) => Self::Any,
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mac(mac) => write!(f, "with the address {mac} (BOOTIF)"),
            Self::Name(name) => write!(f, "named {name}"),
            Self::Any => write!(f, "for Ethernet"),
        }
    }
}

impl Wanted {
    fn fits(&self, link: &Link) -> bool {
        match self {
            _ if link.mac.is_none() => false,
            Self::Mac(mac) => link.mac == Some(*mac),
            Self::Name(name) => link.name == *name,
            Self::Any => true,
        }
    }

    fn nobody(&self, links: &[Link]) -> NetworkError {
        let present: Vec<String> =
            links.iter().filter_map(|link| Some(format!("{} ({})", link.name, link.mac?))).collect();
        let present = if present.is_empty() { "none".to_owned() } else { present.join(", ") };
        NetworkError::NoInterface { wanted: self.to_string(), present }
    }
}

#[cfg(test)]
mod tests {
    use super::super::SILENT_PORT;
    use super::*;
    use ka::cmdline;

    fn link(index: u32, name: &str, mac: Option<u8>) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mac: mac.map(|b| Mac([b; 6])),
            permanent: None,
            carrier: false,
            carrier_ups: 1,
            mtu: 1500,
        }
    }

    #[test]
    fn a_carrier_that_comes_again_counts_again() {
        let mut links = Links::new(&cmdline::parse("").unwrap());
        let (start, s) = (links.start, Duration::from_secs);
        assert_eq!(links.last_carrier(), start);
        let mut eth0 = link(2, "eth0", Some(1));
        for (ups, at, last) in [(1, 3, 3), (1, 20, 3), (2, 50, 50), (2, 60, 50), (3, 100, 100), (9, 500, 180)]
        {
            eth0.carrier_ups = ups;
            links.note_carrier(&eth0, start + s(at));
            assert_eq!(links.last_carrier(), start + s(last), "after {at} s");
        }
        // Another card's counts by itself.
        links.note_carrier(&link(3, "eth1", Some(2)), start + s(30));
        assert_eq!(links.last_carrier(), start + s(180));
    }

    /// Spanning tree takes 30 to 50 s from the carrier on.
    #[test]
    fn a_port_may_be_silent_for_a_minute_after_its_carrier() {
        let mut links = Links::new(&cmdline::parse("").unwrap());
        let (start, s) = (links.start, Duration::from_secs);
        let may = |links: &Links, at: u64| links.may_be_silent(SILENT_PORT, start + s(at));
        assert!(may(&links, 59), "no carrier yet");
        let mut eth0 = link(2, "eth0", Some(1));
        links.note_carrier(&eth0, start + s(20));
        for (at, silent) in [(20, true), (70, true), (79, true), (80, false)] {
            assert_eq!(may(&links, at), silent, "after {at} s");
        }
        // The card negotiates again, and the port begins again.
        eth0.carrier_ups = 2;
        links.note_carrier(&eth0, start + s(100));
        assert!(may(&links, 150) && !may(&links, 160));
    }

    #[test]
    fn bootif_wins_over_the_name() {
        let mut line = cmdline::parse("automatic=interface:eth0").unwrap();
        let (lo, eth0, eth1) = (link(1, "lo", None), link(2, "eth0", Some(1)), link(3, "eth1", Some(2)));
        let fitting = |line: &CommandLine| {
            let wanted = Wanted::from(line);
            [&lo, &eth0, &eth1]
                .into_iter()
                .filter(|link| wanted.fits(link))
                .map(|l| l.index)
                .collect::<Vec<_>>()
        };
        assert_eq!(fitting(&line), [2]);
        line.bootif = Some(Mac([2; 6]));
        assert_eq!(fitting(&line), [3]);
        line.bootif = Some(Mac([3; 6]));
        assert_eq!(fitting(&line), Vec::<u32>::new());
        let error = Wanted::from(&line).nobody(&[lo.clone(), eth0.clone()]).to_string();
        assert!(error.contains("03:03:03:03:03:03") && error.contains("eth0 (01:"), "{error}");
        line = cmdline::parse("").unwrap();
        assert_eq!(fitting(&line), [2, 3]);
    }

    #[test]
    fn a_vlan_has_a_name_that_the_kernel_takes() {
        assert_eq!(vlan_name(&link(7, "eth0", Some(1)), 5), "eth0.5");
        assert_eq!(vlan_name(&link(7, "enx525400123456", Some(1)), 4094), "v7.4094");
    }
}
