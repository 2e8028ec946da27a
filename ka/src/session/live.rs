//! The live state of a node, which ends with the process: its connection, when it was heard, its position.

use std::time::Duration;

use super::input::ConnectionId;
use super::node::{Node, State};
use super::status::NodeStatus;
use crate::chain::Offset;
use crate::wire::control::Progress;

/// How long a failed node may take to hand over its log and leave.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(60);
/// The same for a node that was given up because it hung: it has already had its time.
const LAST_WORDS_OF_THE_STUCK: Duration = Duration::from_secs(10);
/// The same for a node that came late and took no part: it has nothing to hand over.
const LAST_WORDS_OF_STRANGERS: Duration = Duration::from_secs(5);

/// The live state of a node. All times are on the clock that is passed in.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) connection: Option<ConnectionId>,
    pub(super) lost_at: Option<Duration>,
    /// When it joined, and whether it has sent a message since then.
    pub(super) joined_at: Duration,
    pub(super) spoke: bool,
    /// It came after the first round had begun, and was in no earlier round.
    pub(super) late: bool,
    /// When it last sent a message.
    pub(super) heard_at: Duration,
    /// When it failed, if it has.
    pub(super) failed_at: Option<Duration>,
    /// When it last reported a new activity, or was given one.
    pub(super) step_since: Duration,
    /// Since when it has been preparing or finishing.
    pub(super) works_since: Duration,
    /// Since when the operator has been asked about it.
    pub(super) asked_since: Duration,
    pub(super) progress: Progress,
    /// When its writer last took bytes of the stream, and when it last had taken all available bytes.
    taken: Offset,
    taken_at: Duration,
    idle_at: Duration,
    rate: Rate,
}

impl Live {
    pub(super) fn new(connection: Option<ConnectionId>, now: Duration) -> Self {
        Self {
            connection,
            lost_at: None,
            joined_at: now,
            spoke: false,
            late: false,
            heard_at: now,
            failed_at: None,
            step_since: now,
            works_since: now,
            asked_since: now,
            progress: Progress::default(),
            taken: Offset(0),
            taken_at: now,
            idle_at: now,
            rate: Rate::default(),
        }
    }

    /// Records that an event has changed the node.
    pub(super) fn on_change(&mut self, before: &Node, after: &Node, now: Duration) {
        if after.is_failed() && !before.is_failed() {
            self.failed_at = Some(now);
        }
        if matches!(after.state, State::Finishing { .. }) && !matches!(before.state, State::Finishing { .. })
        {
            (self.step_since, self.works_since) = (now, now);
        }
        if after.doing != before.doing && after.doing.is_some() {
            self.step_since = now;
        }
        if after.unsure().is_some() && before.unsure().is_none() {
            self.asked_since = now;
        }
    }

    /// Clears the state of an earlier round.
    pub(super) fn begin_round(&mut self, now: Duration) {
        let Self { connection, lost_at, joined_at, spoke, late, heard_at, .. } = *self;
        *self = Self { lost_at, joined_at, spoke, late, heard_at, ..Self::new(connection, now) };
    }

    /// Records a message from it.
    pub(super) fn on_heard(&mut self, now: Duration) {
        self.heard_at = now;
        self.spoke = true;
    }

    pub(super) fn on_progress(&mut self, progress: Progress, now: Duration) {
        self.rate.add(progress.verified.0, now);
        // Only a rise counts, not any change.
        if progress.written > self.taken {
            (self.taken, self.taken_at) = (progress.written, now);
        }
        if progress.written >= progress.verified {
            self.idle_at = now;
        }
        self.progress = progress;
    }

    /// Whether its writer has taken all received bytes.
    pub(super) fn has_taken_all(&self) -> bool {
        self.progress.written >= self.progress.verified
    }

    /// For how long its writer has taken nothing although bytes were available. Once it has taken the whole
    /// stream: for how long since `released` it has written nothing out.
    pub(super) fn takes_nothing(&self, released: Option<Duration>, now: Duration) -> Duration {
        now.saturating_sub(self.taken_at.max(released.unwrap_or(self.idle_at)))
    }
}

/// The node's current status.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) node: &'a Node,
    pub(super) live: &'a Live,
}

impl Known<'_> {
    /// Whether it waits for another attempt.
    pub(super) fn waits_again(&self) -> bool {
        self.node.may_wait_again() && self.live.connection.is_some()
    }

    /// Whether it came late, and has received nothing.
    pub(super) fn took_no_part(&self) -> bool {
        self.live.late && self.live.progress.verified == Offset(0)
    }

    /// Whether it is dead, or has failed and is silent.
    pub(super) fn is_lost(&self) -> bool {
        let is_gone = self.live.connection.is_none() || self.node.is_dismissed();
        self.node.failed().is_some_and(|failed| failed.dead || is_gone)
    }

    /// Whether the run need not wait for it any longer.
    pub(super) fn has_left(&self, now: Duration) -> bool {
        // A writer that hangs for ever keeps its node from leaving in good order.
        let late = self.node.failed().is_some_and(|failed| {
            let words = match failed.stuck {
                _ if self.took_no_part() => LAST_WORDS_OF_STRANGERS,
                true => LAST_WORDS_OF_THE_STUCK,
                false => LAST_WORDS,
            };
            self.live.failed_at.is_some_and(|at| now.saturating_sub(at) > words)
        });
        self.node.is_dismissed() || self.is_lost() || late
    }

    /// How long it has been at its current step, if it is working.
    pub(super) fn at_one_step(&self, now: Duration) -> Option<Duration> {
        let works = matches!(self.node.state, State::Preparing { .. } | State::Finishing { .. });
        works.then(|| now.saturating_sub(self.live.step_since))
    }

    /// How long it has been working, over all steps, if it is working.
    pub(super) fn at_work(&self, now: Duration) -> Option<Duration> {
        self.at_one_step(now).map(|_| now.saturating_sub(self.live.works_since))
    }

    /// Whether this is `former`, which took part before, restarted: the same copy on the same machine. A copy
    /// that another receiver on the machine failed to get is not this one's.
    pub(super) fn takes_the_place_of(&self, former: &Self) -> bool {
        let is_new = !self.node.is_chosen() && self.node.id() != former.node.id();
        is_new
            && former.node.is_chosen()
            && former.is_lost()
            && self.node.joined.place == former.node.joined.place
            && self.node.is_same_machine(former.node)
    }

    /// Its status for display. `uncompressed` converts sealed bytes to bytes of the uncompressed stream, and
    /// a round may follow if there are `more_rounds`.
    pub(super) fn status(&self, uncompressed: impl Fn(u64) -> u64, more_rounds: bool) -> NodeStatus {
        let Self { node, live } = self;
        let failed = node.failed();
        NodeStatus {
            mac: node.mac(),
            address: node.joined.peer,
            hostname: node.joined.inventory.hostname.clone(),
            phase: node.phase(),
            received: node.length().unwrap_or_else(|| uncompressed(live.progress.verified.0)),
            rate: uncompressed(live.rate.per_second),
            round: node.round(),
            position: node.position(),
            may_come_again: more_rounds && failed.is_some_and(|f| f.dead || f.failure.transient),
            doing: node.doing.clone(),
            notes: node.notes.clone(),
            failure: failed.map(|failed| failed.failure.clone()),
            tpm: node.joined.tpm,
        }
    }
}

/// The rate in bytes per second between the last two reports that are at least a second apart.
#[derive(Debug, Default)]
struct Rate {
    since: Option<(Duration, u64)>,
    per_second: u64,
}

impl Rate {
    fn add(&mut self, position: u64, now: Duration) {
        let Some((then, before)) = self.since else {
            self.since = Some((now, position));
            return;
        };
        let millis = u64::try_from(now.saturating_sub(then).as_millis()).unwrap_or(u64::MAX);
        if millis >= 1000 {
            self.per_second = position.saturating_sub(before).saturating_mul(1000) / millis;
            self.since = Some((now, position));
        }
    }
}
