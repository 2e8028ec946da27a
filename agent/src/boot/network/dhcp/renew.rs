//! Renews a lease, in a thread of its own.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::message::{Answer, Lease, Question};
use super::timers::Due;
use super::wire::Wire;
use super::{Asker, DhcpError, Granted};
use ka::mac::Mac;
use ka_host::rtnetlink::{Link, Netlink};

/// How long to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long to look for another lease after one is lost.
const START_OVER: Duration = Duration::from_secs(60);

/// The thread that renews a lease. It ends when this is dropped.
#[derive(Debug)]
pub(in super::super) struct Renewal {
    _stop: Sender<()>,
}

impl Renewal {
    /// Starts the thread; `None` for a lease that never expires.
    pub(in super::super) fn start(
        link: Link,
        mac: Mac,
        lease: Lease,
        since: Instant,
    ) -> io::Result<Option<Self>> {
        if lease.timers.is_none() {
            return Ok(None);
        }
        let (stop, stopped) = channel();
        std::thread::Builder::new()
            .name("dhcp".to_owned())
            .spawn(move || Renewer { link, mac, lease, since, last: None }.keep(&stopped))?;
        Ok(Some(Self { _stop: stop }))
    }
}

struct Renewer {
    link: Link,
    mac: Mac,
    lease: Lease,
    since: Instant,
    /// The lease's age at the last attempt to renew it.
    last: Option<Duration>,
}

impl Renewer {
    fn keep(mut self, stopped: &Receiver<()>) {
        while let Some(timers) = self.lease.timers {
            let age = self.since.elapsed();
            let due = timers.due(age, self.last);
            let asked = Instant::now();
            let answer = match due {
                Due::Wait(wait) => match stopped.recv_timeout(wait) {
                    Err(RecvTimeoutError::Timeout) => continue,
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                },
                Due::Renew => self.extend(Question::Renew(&self.lease)),
                Due::Rebind => self.extend(Question::Rebind(&self.lease)),
                Due::Expired => {
                    Ok(Some(Answer::Nak { server: None, reason: "the lease is over".to_owned() }))
                }
            };
            self.last = Some(age);
            let name = &self.link.name;
            match answer {
                Ok(Some(Answer::Ack(lease))) => {
                    log::debug!("{name}: lease of {} renewed by {}", lease.setting.address, lease.server);
                    let lease = lease.after(&self.lease.setting);
                    self.take(lease, asked);
                }
                Ok(Some(Answer::Nak { reason, .. })) => self.start_over(&reason),
                Ok(_) => {
                    log::warn!("{name}: no DHCP server renews the lease of {}", self.lease.setting.address)
                }
                Err(e) => log::warn!("{name}: lease of {}: {e}", self.lease.setting.address),
            }
        }
    }

    /// Asks once. Any server may extend the lease, but only the one that granted it may revoke it: others may
    /// know nothing of it.
    fn extend(&self, question: Question<'_>) -> io::Result<Option<Answer>> {
        let granted_by = self.lease.server;
        Wire::with_address(&self.link, self.mac)?.extend(question, PATIENCE, |answer| match answer {
            Answer::Offer(_) => false,
            Answer::Ack(_) => true,
            Answer::Nak { server, .. } => *server == Some(granted_by),
        })
    }

    /// Starts over, for as long as a switch port may block traffic.
    fn acquire(&self) -> Result<Granted, DhcpError> {
        let start = Instant::now();
        let deadline = start + START_OVER;
        let mut asker = Asker::default();
        asker.add(&self.link, self.mac)?;
        while Instant::now() < deadline {
            if let Some(granted) = asker.attempt(&[], deadline)? {
                return Ok(granted);
            }
        }
        Err(asker.failure(start.elapsed()))
    }

    /// The address is kept until another is granted: losing the node for want of a DHCP server would do more
    /// harm.
    fn start_over(&mut self, reason: &str) {
        let (name, address) = (&self.link.name, self.lease.setting.address);
        log::warn!("{name}: DHCP no longer grants {address}: {reason}; asking again");
        match self.acquire() {
            Ok(Granted { lease, since, .. }) => self.take(lease, since),
            Err(e) => log::error!("{e}; {address} is kept without a lease"),
        }
    }

    fn take(&mut self, lease: Lease, since: Instant) {
        let old = self.lease.setting.clone();
        if lease.setting != old {
            let name = &self.link.name;
            let outcome = Netlink::open().and_then(|mut netlink| {
                if (old.address, old.prefix) != (lease.setting.address, lease.setting.prefix) {
                    netlink.remove_address(self.link.index, old.address, old.prefix)?;
                }
                lease.setting.apply(&mut netlink, &self.link)
            });
            if let Err(e) = outcome {
                log::error!("{name}: address {}: {e}", lease.setting.address);
            }
        }
        (self.lease, self.since, self.last) = (lease, since, None);
    }
}
