//! DISCOVER, OFFER, REQUEST, ACK, on all interfaces with a carrier at once.
//!
//! Several servers may offer, on one interface or several. The first offer is requested. The others are kept
//! in case it is refused, and only the server that was asked can refuse it.

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::super::probe::user_of;
use super::message::{Answer, Lease, Question};
use super::wire::Wire;
use super::{DhcpError, Way};
use ka::mac::Mac;
use ka_host::rtnetlink::Link;

/// How long to wait for offers, by attempt; the last one is repeated.
const PATIENCE: [u64; 5] = [1, 2, 4, 8, 9];

/// How long to wait for the answer to a request, by attempt.
const REQUEST_PATIENCE: [u64; 3] = [1, 2, 4];

/// How long to wait for other offers before asking a server again that has refused.
const OTHERS_FIRST: Duration = Duration::from_secs(1);

/// From this attempt on, every second one imitates a network ROM.
const AS_ROM_FROM: usize = 2;

/// A client without an address.
#[derive(Debug, Default)]
pub(in super::super) struct Asker {
    wires: Vec<Wire>,
    tries: usize,
    offers: Vec<Offer>,
    /// Servers that refused or stayed silent, and in which attempt.
    refused: Vec<(Way, usize)>,
    last_refusal: Option<(Way, Ipv4Addr, String)>,
}

/// The granted lease.
#[derive(Debug)]
pub(in super::super) struct Granted {
    pub(in super::super) link: Link,
    pub(in super::super) mac: Mac,
    pub(in super::super) lease: Lease,
    /// When the lease began: the time of the request.
    pub(in super::super) since: Instant,
}

#[derive(Debug)]
struct Offer {
    wire: usize,
    lease: Lease,
    as_rom: bool,
}

impl Asker {
    /// Adds this interface.
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

    /// One attempt: asks on all interfaces and takes the first offer that is granted, except those in `vain`.
    /// Waits for the whole attempt, but never beyond `deadline`.
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

    /// Why nothing was granted, after all attempts, which took `waited`.
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
        // Adds jitter, so that a rack switched on at once does not keep asking in step.
        let jitter = self.wires.first().map_or(0, |wire| u64::from(wire.mac.0[5]) * 2);
        Duration::from_millis(seconds * 1000 + jitter)
    }

    /// The next offer to request: from a server that has never refused, or else, if no other comes first,
    /// from one that refused in an earlier attempt.
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
                        let Some(wire) = self.wires.get(index) else { return Ok(None) };
                        let (link, mac) = (wire.link.clone(), wire.mac);
                        let Some(other) = user_of(lease.setting.address, &link, mac) else {
                            return Ok(Some(Granted { link, mac, lease, since }));
                        };
                        log::warn!(
                            "{name}: DHCP server {server} grants {address}, which {other} uses: declined"
                        );
                        wire.ask(Question::Decline(&lease), as_rom).map_err(|error| failed(wire, error))?;
                        refusal = format!("granted it, although {other} uses it");
                        break 'requests;
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

    /// Not an answer to the current question.
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
                    "{name}: {} grants {}, which was not requested",
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

    /// The next answer on any interface; `None` if none arrives in time.
    fn hear(&self, until: Instant) -> Result<Option<(usize, Answer)>, DhcpError> {
        loop {
            // Checked first, so that a flood of answers cannot extend the limit.
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
