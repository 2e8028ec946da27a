//! The settings of a session.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::order::ChainOrder;
use super::plans::Plans;
use crate::chain::SlowLimits;
use crate::mac::Mac;

/// The settings of a session. They do not change while the session lasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionSpec {
    /// Its name, which nodes ask for.
    pub name: String,
    /// The start time.
    pub started: SystemTime,
    /// The number of nodes that it waits for.
    pub wanted: usize,
    /// How nodes are admitted, and when the session begins.
    pub admission: AdmissionPolicy,
    /// The machines that it may take; all if `None`.
    pub only: Option<BTreeSet<Mac>>,
    /// What the nodes do before the stream.
    pub plans: Option<Plans>,
    /// After this time it begins with the nodes present.
    pub timeout: Option<Duration>,
    /// The golden node's window in bytes.
    pub window: u64,
    /// How long silence may last.
    pub dead_after: Duration,
    /// How long the nodes wait for the controller if it vanishes; zero means no longer than an ordinary
    /// outage lasts.
    pub patience: Duration,
    /// How long a node may stay at one step, or take nothing of its received data.
    pub step_limit: Duration,
    /// When a node is too slow to be waited for.
    pub slow: SlowLimits,
    /// The maximum number of rounds; a lasting session has no limit.
    pub rounds: u32,
    /// The interval between the dismissals of finished nodes; zero for all at once.
    pub delay: Duration,
    /// The chain's order.
    pub order: ChainOrder,
    /// The maximum number of nodes with one address: behind a router that translates addresses, many share
    /// one.
    pub per_address: usize,
    /// The size of the uncompressed stream in bytes, if known in advance: exact for a file, an estimate for
    /// file systems. Only for display.
    #[serde(default)]
    pub total: Option<u64>,
}

/// How nodes are admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdmissionPolicy {
    /// The first nodes to join, up to the wanted number.
    First,
    /// Those that the operator admits, when he does.
    Named,
    /// All nodes, for ever: a chain begins when the wanted number wait, or none has joined for this time.
    Lasting(Duration),
}

impl SessionSpec {
    /// A session with this name for this many nodes, with the defaults of `kactl send`.
    #[must_use]
    pub fn new(name: &str, wanted: usize) -> Self {
        Self {
            name: name.to_owned(),
            started: SystemTime::UNIX_EPOCH,
            wanted,
            admission: AdmissionPolicy::First,
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
            order: ChainOrder::Address,
            per_address: 256,
            total: None,
        }
    }
}
