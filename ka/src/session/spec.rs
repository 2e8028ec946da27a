//! What a session is to do.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::order::Order;
use super::plans::Plans;
use crate::chain::SlowLimits;
use crate::mac::Mac;

/// What a session is to do. It does not change while the session lasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionSpec {
    /// Its name, by which nodes ask for it.
    pub name: String,
    /// When it began.
    pub started: SystemTime,
    /// How many nodes it waits for.
    pub wanted: usize,
    /// Who lets nodes in, and when it begins.
    pub gate: Gate,
    /// The machines that it may take; all if none are named.
    pub only: Option<BTreeSet<Mac>>,
    /// What the nodes do before the stream.
    pub plans: Option<Plans>,
    /// After this time it begins with the nodes present.
    pub timeout: Option<Duration>,
    /// The golden node's window in bytes.
    pub window: u64,
    /// What silence means.
    pub dead_after: Duration,
    /// How long the nodes wait for the controller if it vanishes; zero for no longer than any outage lasts.
    pub patience: Duration,
    /// How long a node may be at one step, or take nothing of what it has.
    pub step_limit: Duration,
    /// When a node is too slow to be waited for.
    pub slow: SlowLimits,
    /// How many rounds may be held in all; a lasting session holds as many as it likes.
    pub rounds: u32,
    /// Nodes that are done are let go one by one, so long apart; zero for all at once.
    pub delay: Duration,
    /// The chain's order.
    pub order: Order,
    /// How many nodes may have one address: many have, behind a router that translates addresses.
    pub per_address: usize,
}

/// Who is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// The first ones that come, as many as are wanted.
    First,
    /// Those that the operator admits, when he does.
    Named,
    /// All nodes, for ever: a chain begins when all that are wanted wait, or none has come for this time.
    Lasting(Duration),
}

impl SessionSpec {
    /// A session with this name for so many nodes, as `kactl send` holds it by default.
    #[must_use]
    pub fn new(name: &str, wanted: usize) -> Self {
        Self {
            name: name.to_owned(),
            started: SystemTime::UNIX_EPOCH,
            wanted,
            gate: Gate::First,
            only: None,
            plans: None,
            timeout: None,
            window: 64 << 20,
            dead_after: Duration::from_millis(1500),
            patience: Duration::ZERO,
            step_limit: Duration::from_secs(35 * 60),
            slow: SlowLimits::default(),
            rounds: 1,
            delay: Duration::ZERO,
            order: Order::Address,
            per_address: 256,
        }
    }
}
