//! DISCOVER, OFFER, REQUEST, ACK, on all interfaces that have a carrier at once.
//!
//! Several servers may offer, on one interface or on several. The first offer is asked for. Whatever happens then, the
//! others are kept for the case that it is refused, and only the server that was asked can refuse it.

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::message::{Answer, Lease, Question};
use super::wire::Wire;
use super::{DhcpError, Way};
use ka::mac::Mac;
use ka_host::rtnetlink::Link;

/// How long to wait for offers, from try to try; the last one is repeated.
const PATIENCE: [u64; 5] = [1, 2, 4, 8, 9];

/// How long to wait for the answer to a request, from try to try.
const REQUEST_PATIENCE: [u64; 3] = [1, 2, 4];

/// How long others may offer before a server is asked again that has refused.
const OTHERS_FIRST: Duration = Duration::from_secs(1);

/// From this try on, every second one is made as a network ROM makes it.
const AS_ROM_FROM: usize = 2;

/// A client without an address.
#[derive(Debug, Default)]
pub(in super::super) struct Asker {
    wires: Vec<Wire>,
    tries: usize,
    offers: Vec<Offer>,
    /// Who refused or was silent, in which try.
    refused: Vec<(Way, usize)>,
    last_refusal: Option<(Way, Ipv4Addr, String)>,
}

/// What was granted.
#[derive(Debug)]
pub(in super::super) struct Granted {
    pub(in super::super) link: Link,
    pub(in super::super) mac: Mac,
    pub(in super::super) lease: Lease,
    /// When the lease began, which is when it was asked for.
    pub(in super::super) since: Instant,
}

#[derive(Debug)]
struct Offer {
    wire: usize,
    lease: Lease,
    as_rom: bool,
}

impl Asker {
    /// Asks on this interface too.
    pub(in super::super) fn add(&mut self, link: &Link, mac: Mac) -> Result<(), DhcpError> {
        if self.wires.iter().any(|wire| wire.link.index == link.index) {
            return Ok(());
        }
        let wire = Wire::without_address(link, mac)
            .map_err(|error| DhcpError::Socket { interface: link.name.clone(), error })?;
        self.wires.push(wire);
        Ok(())
    }

    /// The names of the interfaces.
    pub(in super::super) fn interfaces(&self) -> String {
        self.wires.iter().map(|wire| wire.link.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// One try: asks everywhere and takes the first offer that is granted, but none of `vain`. Waits the whole try
    /// for it, and never beyond `deadline`.
    pub(in super::super) fn attempt(
        &mut self,
        vain: &[Way],
        deadline: Instant,
    ) -> Result<Option<Granted>, DhcpError> {
        let start = Instant::now();
        let end = deadline.min(start + self.patience());
        let as_rom = self.tries >= AS_ROM_FROM && self.tries % 2 == AS_ROM_FROM % 2;
        self.offers.clear();
        for wire in &self.wires {
            wire.ask(Question::Discover, as_rom).map_err(|error| failed(wire, error))?;
        }
        self.tries += 1;
        loop {
            let now = Instant::now();
            let others_first = now < end.min(start + OTHERS_FIRST);
            if let Some(offer) = self.next_offer(vain, others_first) {
                if let Some(granted) = self.request(offer, deadline)? {
                    return Ok(Some(granted));
                }
                continue;
            }
            if now >= end {
                return Ok(None);
            }
            let until = if others_first && !self.offers.is_empty() { start + OTHERS_FIRST } else { end };
            if let Some((wire, answer)) = self.hear(until.min(end))? {
                self.note(wire, answer, as_rom);
            }
        }
    }

    /// Why nothing was granted, after all tries, which took `waited`.
    pub(in super::super) fn failure(&self, waited: Duration) -> DhcpError {
        let interface = self.interfaces();
        match &self.last_refusal {
            Some((way, address, reason)) => DhcpError::Refused {
                interface,
                server: way.server.unwrap_or(Ipv4Addr::UNSPECIFIED),
                address: *address,
                reason: reason.clone(),
            },
            None => DhcpError::NoAnswer { interface, seconds: waited.as_secs() },
        }
    }

    fn patience(&self) -> Duration {
        let seconds = PATIENCE.get(self.tries).or(PATIENCE.last()).copied().unwrap_or(1);
        // A rack that is switched on at once must not ask at once for ever.
        let jitter = self.wires.first().map_or(0, |wire| u64::from(wire.mac.0[5]) * 2);
        Duration::from_millis(seconds * 1000 + jitter)
    }

    /// The next offer to ask for: of servers that have never refused, and then, unless others come first, of those that
    /// refused in an earlier try.
    fn next_offer(&mut self, vain: &[Way], others_first: bool) -> Option<Offer> {
        let wires = &self.wires;
        let way = |offer: &Offer| way(wires, offer);
        self.offers.retain(|offer| !vain.contains(&way(offer)));
        let (refused, tries) = (&self.refused, self.tries);
        let never = |offer: &Offer| refused.iter().all(|(who, _)| *who != way(offer));
        let earlier = |offer: &Offer| refused.iter().all(|(who, then)| *who != way(offer) || *then < tries);
        let index = self
            .offers
            .iter()
            .position(never)
            .or_else(|| if others_first { None } else { self.offers.iter().position(earlier) })?;
        Some(self.offers.remove(index))
    }

    fn request(&mut self, offer: Offer, deadline: Instant) -> Result<Option<Granted>, DhcpError> {
        let Offer { wire: index, lease, as_rom } = offer;
        let (server, address) = (lease.server, lease.setting.address);
        let Some(wire) = self.wires.get(index) else { return Ok(None) };
        let way = Way { card: wire.link.index, server: Some(server) };
        let name = wire.link.name.clone();
        log::debug!("{name}: {server} offers {address}");
        let mut refusal = "did not answer the request for it".to_owned();
        'requests: for seconds in REQUEST_PATIENCE {
            let since = Instant::now();
            let end = deadline.min(since + Duration::from_secs(seconds));
            if let Some(wire) = self.wires.get(index) {
                wire.ask(Question::Request(&lease), as_rom).map_err(|error| failed(wire, error))?;
            }
            while let Some((heard_on, answer)) = self.hear(end)? {
                match answer {
                    Answer::Ack(lease) if heard_on == index && lease.server == server => {
                        return Ok(self.wires.get(index).map(|wire| Granted {
                            link: wire.link.clone(),
                            mac: wire.mac,
                            lease,
                            since,
                        }));
                    }
                    Answer::Nak { server: from, reason } if heard_on == index && from == Some(server) => {
                        log::warn!(
                            "{name}: DHCP server {server} offered {address} and now refuses it: {reason}"
                        );
                        refusal = format!("refused it: {reason}");
                        break 'requests;
                    }
                    other => self.note(heard_on, other, as_rom),
                }
            }
        }
        self.refused.push((way, self.tries));
        self.last_refusal = Some((way, address, refusal));
        Ok(None)
    }

    /// What is no answer to the question of now.
    fn note(&mut self, wire: usize, answer: Answer, as_rom: bool) {
        let Some(name) = self.wires.get(wire).map(|wire| &wire.link.name) else { return };
        match answer {
            Answer::Offer(lease) => {
                let same = |offer: &Offer| offer.wire == wire && offer.lease.server == lease.server;
                if !self.offers.iter().any(same) {
                    self.offers.push(Offer { wire, lease, as_rom });
                }
            }
            Answer::Ack(lease) => {
                log::debug!(
                    "{name}: {} grants {}, for which it was not asked",
                    lease.server,
                    lease.setting.address
                );
            }
            Answer::Nak { server, reason } => {
                let server =
                    server.map_or_else(|| "a server without a name".to_owned(), |server| server.to_string());
                log::debug!("{name}: {server} refuses what another server offered ({reason}): ignored");
            }
        }
    }

    /// The next answer on any interface; none if nothing comes until then.
    fn hear(&self, until: Instant) -> Result<Option<(usize, Answer)>, DhcpError> {
        loop {
            // First of all, so that a flood of answers moves no limit.
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            for (index, wire) in self.wires.iter().enumerate() {
                if let Some(answer) = wire.hear().map_err(|error| failed(wire, error))? {
                    return Ok(Some((index, answer)));
                }
            }
            let mut ears: Vec<PollFd<'_>> =
                self.wires.iter().map(|wire| PollFd::from_borrowed_fd(wire.ear(), PollFlags::IN)).collect();
            let outcome = Timespec::try_from(left).map_or(Ok(0), |left| poll(&mut ears, Some(&left)));
            if let Err(error) = outcome
                && error != Errno::INTR
            {
                return Err(DhcpError::Socket {
                    interface: self.interfaces(),
                    error: io::Error::from(error),
                });
            }
        }
    }
}

fn way(wires: &[Wire], offer: &Offer) -> Way {
    let card = wires.get(offer.wire).map_or(0, |wire| wire.link.index);
    Way { card, server: Some(offer.lease.server) }
}

fn failed(wire: &Wire, error: io::Error) -> DhcpError {
    DhcpError::Socket { interface: wire.link.name.clone(), error }
}
