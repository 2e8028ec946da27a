//! How long a node waits for a controller that it does not hear, and what it logs meanwhile.
//!
//! This module has no clock: the session loop passes the time.

use std::time::{Duration, Instant};

/// The time limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The silence after which the connection is replaced; the controller sends every second.
    pub(super) silence: Duration,
    /// How long the controller may be silent and the stream stand still before the node gives up.
    pub(super) give_up: Duration,
    /// The same limit while the controller's host answers that nothing is listening: the controller has then
    /// ended, and its session with it.
    pub(super) gone: Duration,
    /// How often the node logs what it is waiting for.
    pub(super) say: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { silence: seconds(15), give_up: seconds(60), gone: seconds(10), say: seconds(10) }
    }
}

impl Limits {
    /// The controller wants nodes to wait, because another process may take over its session.
    pub(super) fn at_least(self, patience: Duration) -> Self {
        Self { give_up: self.give_up.max(patience), gone: self.gone.max(patience), ..self }
    }
}

/// The node's state, as explained to a person who wonders why it does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// Its copy is complete.
    Complete,
    /// Everything has been received since then, and is not yet synced.
    WritesOut(Instant),
    /// The stream has begun.
    Receives,
    /// The stream has not started.
    Waits,
}

/// The state of a controller.
#[derive(Debug)]
pub(super) struct Outage {
    limits: Limits,
    heard_at: Instant,
    /// When the connection was lost.
    lost_at: Option<Instant>,
    /// Since when its host has answered that nothing is listening.
    refused_at: Option<Instant>,
    /// When the stream last moved: other nodes then depend on this member, whatever has happened to the
    /// controller.
    moved_at: Instant,
    /// When the node last logged what it is waiting for.
    said_at: Instant,
}

impl Outage {
    /// A controller that was heard just now.
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self { limits, heard_at: now, lost_at: None, refused_at: None, moved_at: now, said_at: now }
    }

    /// Records a message from the controller.
    pub(super) fn on_heard(&mut self, now: Instant) {
        (self.heard_at, self.lost_at, self.refused_at) = (now, None, None);
    }

    /// Records that the connection is lost.
    pub(super) fn on_lost(&mut self, now: Instant) {
        self.lost_at = Some(now);
    }

    /// Records a failed reconnection; its host may have answered that nothing is listening.
    pub(super) fn on_failed(&mut self, refused: bool, now: Instant) {
        self.refused_at = refused.then(|| self.refused_at.unwrap_or(now));
    }

    /// Records that the stream is moving.
    pub(super) fn on_moved(&mut self, now: Instant) {
        self.moved_at = now;
    }

    /// Whether the connection is no longer usable.
    pub(super) fn is_silent(&self, dead_after: Duration, now: Instant) -> bool {
        now - self.heard_at > self.limits.silence.max(dead_after * 2)
    }

    /// How much longer the node tries to reach the controller.
    pub(super) fn left(&self, now: Instant) -> Duration {
        // A node that was suspended for long and finds the connection closed has not tried to reconnect yet.
        let lost = self.lost_at.and_then(|at| at.checked_sub(self.limits.silence)).unwrap_or(self.heard_at);
        let still = now - self.moved_at.max(self.heard_at).max(lost);
        let left = self.limits.give_up.saturating_sub(still);
        match self.refused_at {
            Some(since) => left.min(self.limits.gone.saturating_sub(now - since.max(self.moved_at))),
            None => left,
        }
    }

    /// Why the node gives up, if it does.
    pub(super) fn end(&self, address: &str, now: Instant) -> Option<String> {
        if self.lost_at.is_none() || !self.left(now).is_zero() {
            return None;
        }
        let silent = (now - self.heard_at).as_secs();
        Some(match self.refused_at {
            Some(_) => format!(
                "the controller at {address} is unreachable: nothing listens there, and it has been silent \
                 for {silent} s"
            ),
            None => {
                format!("the controller at {address} is unreachable: it has been silent for {silent} s")
            }
        })
    }

    /// The next log message, if one is due; true if it is a warning. An operator who watches a node must
    /// never wonder why it does nothing.
    pub(super) fn word(&mut self, address: &str, doing: Doing, now: Instant) -> Option<(bool, String)> {
        let Limits { say, .. } = self.limits;
        let left = self.left(now).as_secs();
        // The end is logged separately.
        if now - self.said_at < say || self.lost_at.is_some() && left == 0 {
            return None;
        }
        let silent = now - self.heard_at;
        let controller = match (self.lost_at.is_some(), self.refused_at) {
            (true, Some(_)) => {
                format!(
                    "nothing listens at the controller's {address} any more; this host keeps trying for \
                     {left} s; "
                )
            }
            (true, None) => {
                format!("the controller at {address} is unreachable; this host keeps trying for {left} s; ")
            }
            (false, _) if silent >= say => {
                format!("the controller at {address} has been silent for {} s; ", silent.as_secs())
            }
            (false, _) => String::new(),
        };
        let writes_out = matches!(doing, Doing::WritesOut(since) if now - since >= say);
        if controller.is_empty() && !writes_out {
            return None;
        }
        self.said_at = now;
        let own = match doing {
            Doing::Complete => {
                "all data is here and written, and it waits for the controller's goodbye".to_owned()
            }
            Doing::WritesOut(since) => format!(
                "all data is here, and it has been writing everything out for {} s",
                (now - since).as_secs()
            ),
            Doing::Receives => "it waits for the rest of the stream".to_owned(),
            Doing::Waits => "it waits for the stream".to_owned(),
        };
        Some((!controller.is_empty(), format!("{controller}{own}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "10.0.0.254:30763";
    const DEAD_AFTER: Duration = Duration::from_millis(1500);

    /// A receiver that has everything, whose link is cut at 0 s and heals at `cut`. The controller's host
    /// then answers again, but nothing is listening there. Returns when the receiver gives up, why, and what
    /// it has logged until then.
    fn after_a_cut(cut: u64) -> (u64, String, Vec<(u64, String)>) {
        let start = Instant::now();
        let mut outage = Outage::new(Limits::default(), start);
        let mut said = Vec::new();
        for second in 1..200 {
            let now = start + Duration::from_secs(second);
            if outage.lost_at.is_none() && outage.is_silent(DEAD_AFTER, now) {
                outage.on_lost(now);
            }
            if outage.lost_at.is_some() {
                outage.on_failed(second >= cut, now);
            }
            said.extend(outage.word(ADDRESS, Doing::Complete, now).map(|(_, word)| (second, word)));
            if let Some(reason) = outage.end(ADDRESS, now) {
                return (second, reason, said);
            }
        }
        panic!("it never gives up: {said:?}");
    }

    #[test]
    fn after_a_cut_at_the_end_it_is_not_waited_for_long() {
        let (end, reason, said) = after_a_cut(30);
        assert_eq!(end, 40);
        assert!(reason.contains("nothing listens there") && reason.contains("for 40 s"), "{reason}");
        let starts = [
            (10, "the controller at 10.0.0.254:30763 has been silent for 10 s"),
            (20, "the controller at 10.0.0.254:30763 is unreachable; this host keeps trying for 41 s"),
            (
                30,
                "nothing listens at the controller's 10.0.0.254:30763 any more; this host keeps trying for 10 s",
            ),
        ];
        assert_eq!(said.len(), starts.len(), "{said:?}");
        for ((second, word), (at, start)) in said.iter().zip(starts) {
            assert_eq!(*second, at);
            assert!(word.starts_with(start), "{word}");
            assert!(
                word.ends_with("; all data is here and written, and it waits for the controller's goodbye")
            );
        }
    }

    #[test]
    fn a_cut_that_does_not_heal_is_given_up_a_minute_after_the_last_word() {
        let (end, reason, _) = after_a_cut(1000);
        assert!((60..=62).contains(&end), "{end}");
        assert!(reason.ends_with(&format!("it has been silent for {end} s")), "{reason}");
    }

    #[test]
    fn a_controller_that_has_ended_is_given_up_soon() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut outage = Outage::new(Limits::default(), start);
        outage.on_lost(start);
        outage.on_failed(true, at(1));
        assert_eq!(outage.end(ADDRESS, at(10)), None);
        // Another answer in between restarts the count.
        outage.on_failed(false, at(10));
        outage.on_failed(true, at(11));
        assert_eq!(outage.end(ADDRESS, at(20)), None);
        assert!(outage.end(ADDRESS, at(21)).is_some());
        outage.on_heard(at(21));
        assert_eq!(outage.end(ADDRESS, at(100)), None, "it is back");
    }

    #[test]
    fn a_controller_that_may_be_resumed_is_waited_for() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut outage = Outage::new(Limits::default().at_least(Duration::from_secs(600)), start);
        outage.on_lost(start);
        outage.on_failed(true, at(1));
        assert_eq!(outage.end(ADDRESS, at(599)), None);
        assert!(outage.end(ADDRESS, at(602)).is_some());
    }

    /// Its machine was suspended for an hour, and its connection is closed when it wakes up.
    #[test]
    fn who_could_not_hear_tries_before_it_gives_up() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(3600 + second);
        let mut outage = Outage::new(Limits::default(), start);
        outage.on_lost(at(0));
        assert_eq!(outage.end(ADDRESS, at(44)), None);
        assert!(outage.end(ADDRESS, at(45)).is_some());
    }

    /// Its own end matters less than the nodes behind it.
    #[test]
    fn as_long_as_the_stream_moves_nobody_gives_up() {
        let start = Instant::now();
        let mut outage = Outage::new(Limits::default(), start);
        outage.on_lost(start);
        for second in 1..300 {
            let now = start + Duration::from_secs(second);
            outage.on_failed(second % 2 == 0, now);
            outage.on_moved(now);
            assert_eq!(outage.end(ADDRESS, now), None, "{second}");
        }
    }

    #[test]
    fn a_disk_that_takes_long_at_the_end_is_said() {
        let start = Instant::now();
        let mut outage = Outage::new(Limits::default(), start);
        let mut said = Vec::new();
        for second in 1..=30 {
            let now = start + Duration::from_secs(second);
            outage.on_heard(now);
            said.extend(outage.word(ADDRESS, Doing::WritesOut(start), now));
        }
        assert_eq!(said.len(), 3);
        let (is_warning, word) = &said[2];
        assert!(
            !is_warning && word == "all data is here, and it has been writing everything out for 30 s",
            "{word}"
        );
        assert_eq!(outage.word(ADDRESS, Doing::Receives, start + Duration::from_secs(39)), None);
    }
}
