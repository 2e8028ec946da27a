//! The first minutes of a process that has taken over a session: its nodes have no connection yet, and will
//! return.
//!
//! A node retries every second, but not every network is ready when its controller is: after a reboot of the
//! golden node, a switch may block its port for half a minute. As long as no node has returned, the
//! controller is the one that is cut off, and its nodes wait for it as long as their patience lasts.

use std::time::Duration;

use super::Session;
use super::leave::ABSENCE;
use super::live::Known;

/// How long a node without work left is waited for: the goodbye may have been lost with the previous process.
const FAREWELL: Duration = Duration::from_secs(15);

impl Session {
    /// Whether the session was taken over a short time ago, and a node has not returned yet. Nothing is
    /// decided without it: it may be complete, or wait for its dismissal or for another round.
    pub(super) fn is_reassembling(&self) -> bool {
        let (farewell, until) = (self.began + FAREWELL, self.reassembles_until());
        self.book.takeovers > 0
            && self.nodes().any(|Known { node, live }| {
                let has_no_work = node.is_dismissed() || node.failed().is_some_and(|f| !f.failure.transient);
                // A node dismissed since then had returned.
                let is_absent = live.connection.is_none() && live.lost_at.is_some() && !node.is_dead();
                is_absent && self.now <= if has_no_work { farewell } else { until }
            })
    }

    /// From the first return on, the other nodes have the usual time of an absence.
    fn reassembles_until(&self) -> Duration {
        let cut_off = self.spec.patience.saturating_sub(ABSENCE);
        self.returned_at.unwrap_or(self.began + cut_off) + ABSENCE
    }
}
