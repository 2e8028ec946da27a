//! One machine: what is on its disk, and the agent that runs on it while it has power.

use ka::chain::{NodeId, View};
use ka::failure::Failure;
use ka::mac::Mac;
use ka::seal::StreamId;
use ka::session::ConnectionId;
use ka::wire::control::Ticket;

use super::plan::{Fault, MachinePlan};

/// Bytes of the stream, and of it per second.
pub(super) const TOTAL: u64 = 12_000_000_000;
pub(super) const RATE: u64 = 100_000_000;

/// What is on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disk {
    /// What was there before.
    Old,
    /// A part of a clone, which does not boot.
    Half,
    /// A clone that boots.
    Clone,
}

/// How far the agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Waiting,
    Preparing { until: u64 },
    Ready,
    Receiving(StreamId),
    Finishing { stream: StreamId, until: u64 },
    Failed { transient: bool },
}

/// From a boot to the end of the power.
pub(super) struct Life {
    pub(super) key: [u8; 32],
    pub(super) connection: Option<ConnectionId>,
    pub(super) ticket: Option<Ticket>,
    pub(super) lost_at: u64,
    pub(super) at: At,
    pub(super) view: Option<(StreamId, View<std::net::SocketAddr>)>,
    /// The last stream of which it has heard.
    pub(super) last_stream: Option<StreamId>,
    pub(super) verified: u64,
    /// It knows the length and the hash of the stream.
    pub(super) is_proven: bool,
    /// All members have the stream.
    pub(super) is_released: bool,
    pub(super) done: bool,
    /// Its last failure, which it repeats after an outage as it was.
    pub(super) failure: Option<Failure>,
    /// The controller may repeat what it knows already.
    pub(super) again: bool,
    /// It has stopped, and does not report it.
    pub(super) is_hung: bool,
    /// Its disk never answers.
    pub(super) is_stalled: bool,
}

impl Life {
    fn new(key: [u8; 32], now: u64) -> Self {
        Self {
            key,
            connection: None,
            ticket: None,
            lost_at: now,
            at: At::Waiting,
            view: None,
            last_stream: None,
            verified: 0,
            is_proven: false,
            is_released: false,
            done: false,
            failure: None,
            again: false,
            is_hung: false,
            is_stalled: false,
        }
    }

    /// The stream that it takes part in.
    pub(super) fn stream(&self) -> Option<StreamId> {
        self.view.as_ref().map(|(stream, _)| *stream)
    }
}

/// A machine of the list.
pub(super) struct Machine {
    pub(super) plan: MachinePlan,
    pub(super) mac: Mac,
    pub(super) disk: Disk,
    pub(super) life: Option<Life>,
    /// When it begins to look for the controller.
    pub(super) boots_at: Option<u64>,
    /// Since when its neighbours hear nothing of it.
    pub(super) quiet_since: u64,
    /// Its open connection, and when the controller's system gives it up.
    pub(super) dangling: Option<(NodeId, ConnectionId, u64)>,
    pub(super) erasures: u32,
    boots: u8,
}

impl Machine {
    pub(super) fn new(number: u8, plan: MachinePlan) -> Self {
        let boots_at = (plan.fault != Fault::NeverWakes).then_some(plan.wakes_at + plan.boots_for);
        Self {
            plan,
            mac: Mac([0x52, 0x54, 0, 0, 1, number]),
            disk: Disk::Old,
            life: None,
            boots_at,
            quiet_since: 0,
            dangling: None,
            erasures: 0,
            boots: 0,
        }
    }

    /// Its agent begins.
    pub(super) fn boot(&mut self, now: u64) {
        self.boots += 1;
        let mut key = [self.boots; 32];
        key[..6].copy_from_slice(&self.mac.0);
        self.life = Some(Life::new(key, now));
        self.boots_at = None;
    }

    /// Whether its neighbours hear it.
    pub(super) fn speaks(&self) -> bool {
        self.life.as_ref().is_some_and(|life| !life.is_hung)
    }
}
