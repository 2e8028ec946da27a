//! How a stream is held: what `run` and `send` have in common.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ka::chain::SlowLimits;
use ka::session::order::Order;
use ka::session::{Gate, SessionSpec};
use ka_net::listen::Listen;

use crate::stream::produce::{Choice, Settings};
use crate::stream::source::{Source, Tuned};

/// How a stream is held.
#[derive(Clone, Debug)]
pub struct Streaming {
    /// How long to wait for all nodes before the session starts with those present.
    pub timeout: Option<Duration>,
    /// The address, and control port, to listen on instead of all.
    pub listen: Option<Listen>,
    /// The only interface through which nodes come, if a person or the configuration names one.
    pub interface: Option<String>,
    /// What silence means.
    pub dead_after: Duration,
    /// How long nodes wait for this controller if it vanishes, if a person says so.
    pub patience: Option<Duration>,
    /// How long one step of a node may take.
    pub step_limit: Duration,
    /// Rounds in all.
    pub rounds: u32,
    /// The chain's order.
    pub order: Order,
    /// When a node is too slow to be waited for.
    pub slow: SlowLimits,
    /// The golden node's window in bytes.
    pub window: u64,
    /// The level of compression.
    pub level: Choice,
    /// Standard output is for one JSON object, so that progress goes to standard error.
    pub json: bool,
}

impl Streaming {
    /// The source, at the level that was chosen.
    #[must_use]
    pub fn tuned(&self, source: Arc<dyn Source>) -> Arc<dyn Source> {
        let settings = Settings { level: self.level, ..source.settings() };
        Arc::new(Tuned(source, settings))
    }

    /// A session for this many nodes, all of which may come, without a plan.
    #[must_use]
    pub fn session(&self, name: &str, wanted: usize, gate: Gate) -> SessionSpec {
        SessionSpec {
            started: SystemTime::now(),
            gate,
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
