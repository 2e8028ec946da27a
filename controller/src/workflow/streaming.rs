//! The settings of a stream that `run` and `send` share.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ka::chain::SlowLimits;
use ka::session::order::ChainOrder;
use ka::session::{AdmissionPolicy, SessionSpec};
use ka_net::listen::Listen;

use crate::stream::settings::{Choice, Settings};
use crate::stream::source::{Source, Tuned};

/// The settings of a stream.
#[derive(Clone, Debug)]
pub struct Streaming {
    /// How long to wait for all nodes before the session starts with the nodes present.
    pub timeout: Option<Duration>,
    /// The address and control port to listen on, instead of all addresses.
    pub listen: Option<Listen>,
    /// The only interface through which nodes connect, if an option or the configuration names one.
    pub interface: Option<String>,
    /// How silent nodes are treated.
    pub dead_after: Duration,
    /// How long nodes wait for this controller if it vanishes, if an option sets that.
    pub patience: Option<Duration>,
    /// How long one step of a node may take.
    pub step_limit: Duration,
    /// The total number of rounds.
    pub rounds: u32,
    /// The chain's order.
    pub order: ChainOrder,
    /// When a node counts as too slow.
    pub slow: SlowLimits,
    /// The golden node's window in bytes.
    pub window: u64,
    /// The level of compression.
    pub level: Choice,
}

impl Streaming {
    /// The source, with the chosen level.
    #[must_use]
    pub fn tuned(&self, source: Arc<dyn Source>) -> Arc<dyn Source> {
        let settings = Settings { level: self.level, ..source.settings() };
        Arc::new(Tuned(source, settings))
    }

    /// A session without a plan for this many nodes, open to all nodes.
    #[must_use]
    pub fn session(&self, name: &str, wanted: usize, admission: AdmissionPolicy) -> SessionSpec {
        SessionSpec {
            started: SystemTime::now(),
            admission,
            window: self.window,
            dead_after: self.dead_after,
            patience: self.patience.unwrap_or_default(),
            step_limit: self.step_limit,
            rounds: self.rounds,
            order: self.order.clone(),
            slow: self.slow,
            ..SessionSpec::new(name, wanted)
        }
    }
}
