//! What the controller knows of one node of a session.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ka::chain::{NodeId, Offset};
use ka::failure::{Failure, FailureKind};
use ka::inventory::Inventory;
use ka::keys::Key;
use ka::notes::Tally;
use ka::seal::StreamId;
use ka::step::{Doing, Step};
use ka::wire::control::{Hello, Progress, Ticket};

use crate::hub::Arrival;
use crate::hub::clock;
use crate::hub::net::ConnectionId;
use crate::hub::plans::OwnDisks;
use crate::status::{NodeStatus, Phase};
use ka::mac::Mac;

/// How long a node that has failed may take to hand over its log and leave.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(60);
/// The same for one that was given up because it hung: it has had its time.
const LAST_WORDS_OF_THE_STUCK: Duration = Duration::from_secs(10);

/// The longest name of what a step is about, and the longest reason of a failure, with a tool's output in it; in bytes.
const MAX_STEP: usize = 256;
const MAX_REASON: usize = 16 << 10;

/// A node of a session.
pub(super) struct Node {
    pub(super) ticket: Ticket,
    /// Its agent's key of this boot.
    pub(super) key: Key,
    /// Where its successor reaches it.
    data_port: u16,
    /// How many bytes it can keep for others.
    pub(super) window: u64,
    /// Its kernel was started with `kamethod`.
    pub(super) erasable: bool,
    /// Which of several copies on its machine it is.
    place: u64,
    /// Shared with whoever shows it: it may be long, and is asked for often.
    pub(super) inventory: Arc<Inventory>,
    /// Bytes that its hello takes, about.
    pub(super) weight: usize,
    pub(super) peer: IpAddr,
    /// This machine's address, as the node sees it.
    pub(super) local: IpAddr,
    pub(super) connection: Option<ConnectionId>,
    pub(super) lost_at: Option<Instant>,
    /// Who else has claimed its hardware address while it waited.
    pub(super) claimed_by: BTreeSet<IpAddr>,
    pub(super) phase: Phase,
    /// What it does, by its last word; none if it has reported nothing since its phase began.
    pub(super) doing: Option<Doing>,
    pub(super) failure: Option<Failure>,
    pub(super) progress: Progress,
    /// Bytes of the plain stream, once it has all.
    pub(super) total: Option<u64>,
    /// What it noted of its copy, which is no failure.
    notes: Tally,
    /// The node itself says that it failed.
    confessed: bool,
    /// The node has nothing more to do.
    pub(super) done: bool,
    /// The node was sent away.
    pub(super) dismissed: bool,
    /// The chain holds it for dead.
    pub(super) dead: bool,
    /// It was given up because it made no progress: it would make none in another round.
    stuck: bool,
    /// When it was taken out of a chain alive: the last one has the largest number, and 0 is never.
    pub(super) bypassed: u32,
    /// Who handed it a forged stream, by its own word.
    pub(super) deceived_by: Option<String>,
    pub(super) deceived_in: Option<StreamId>,
    /// When it failed, if it has.
    failed_at: Option<Instant>,
    /// When it last said anything.
    pub(super) heard_at: Instant,
    /// When it last told of something new that it does, or was given it.
    pub(super) step_since: Instant,
    /// Since when it prepares, or finishes.
    pub(super) works_since: Instant,
    /// It takes part, or took part, in a round.
    pub(super) chosen: bool,
    /// The last round that it took part in, with its stream, and its place in the chain, from 1.
    pub(super) round: u32,
    pub(super) stream: Option<StreamId>,
    pub(super) position: Option<usize>,
    /// When its writer last took something of the stream, and when it last had taken all that was there.
    taken: Offset,
    taken_at: Instant,
    idle_at: Instant,
    /// Which of its disks are erased, once that is sure.
    pub(super) own: Option<OwnDisks>,
    /// Why it is not sure, and since when somebody is asked.
    pub(super) unsure: Option<(String, Instant)>,
    rate: Rate,
}

impl Node {
    pub(super) fn new(
        ticket: Ticket,
        hello: Hello,
        connection: ConnectionId,
        (peer, local): (IpAddr, IpAddr),
    ) -> Self {
        let weight = hello.weight();
        Self {
            ticket,
            key: hello.key,
            data_port: hello.data_port,
            window: hello.window,
            erasable: hello.erasable,
            place: hello.place,
            inventory: Arc::new(hello.inventory),
            weight,
            peer,
            local,
            connection: Some(connection),
            lost_at: None,
            claimed_by: BTreeSet::new(),
            phase: Phase::Joined,
            doing: None,
            failure: None,
            progress: Progress::default(),
            total: None,
            notes: Tally::default(),
            confessed: false,
            done: false,
            dismissed: false,
            dead: false,
            stuck: false,
            bypassed: 0,
            deceived_by: None,
            deceived_in: None,
            failed_at: None,
            heard_at: clock::now(),
            step_since: clock::now(),
            works_since: clock::now(),
            chosen: false,
            round: 0,
            stream: None,
            position: None,
            taken: Offset(0),
            taken_at: clock::now(),
            idle_at: clock::now(),
            own: None,
            unsure: None,
            rate: Rate::default(),
        }
    }

    pub(super) fn id(&self) -> NodeId {
        self.ticket.node
    }

    /// Where its successor reaches it.
    pub(super) fn data_address(&self) -> SocketAddr {
        SocketAddr::new(self.peer, self.data_port)
    }

    pub(super) fn mac(&self) -> Option<Mac> {
        self.inventory.cards.first().and_then(|card| card.mac.parse().ok())
    }

    /// It as a person sees it who is asked; none without a card by which it could be named.
    pub(super) fn arrival(&self) -> Option<Arrival> {
        Some(Arrival {
            mac: self.mac()?,
            address: self.peer,
            key: self.key,
            inventory: Arc::clone(&self.inventory),
            claimed_by: self.claimed_by.clone(),
        })
    }

    /// Only what it is called is asked for any more.
    pub(super) fn forget_details(&mut self) {
        let Inventory { hostname, cards, .. } = &*self.inventory;
        let cards = cards.first().cloned().into_iter().collect();
        self.inventory = Arc::new(Inventory { hostname: hostname.clone(), cards, ..Inventory::default() });
        self.notes = Tally::default();
    }

    /// What a person calls it.
    pub(super) fn label(&self) -> String {
        match (self.inventory.hostname.as_str(), self.mac()) {
            ("", Some(mac)) => format!("{mac} ({})", self.peer),
            ("", None) => self.peer.to_string(),
            (name, _) => format!("{name} ({})", self.peer),
        }
    }

    pub(super) fn on_progress(&mut self, progress: Progress) {
        self.rate.add(progress.verified.0);
        // What rises counts, and not what only changes.
        if progress.written > self.taken {
            (self.taken, self.taken_at) = (progress.written, clock::now());
        }
        if progress.written >= progress.verified {
            self.idle_at = clock::now();
        }
        self.progress = progress;
    }

    /// It is to take part in a round, with nothing left of an earlier one.
    pub(super) fn begin_round(&mut self, round: u32, planned: bool) {
        self.chosen = true;
        self.round = round;
        self.phase = if planned { Phase::Planned } else { Phase::Ready };
        self.doing = None;
        (self.step_since, self.works_since) = (clock::now(), clock::now());
        self.failure = None;
        self.progress = Progress::default();
        self.taken = Offset(0);
        (self.taken_at, self.idle_at) = (clock::now(), clock::now());
        self.rate = Rate::default();
        self.total = None;
        self.notes = Tally::default();
        self.confessed = false;
        self.done = false;
        self.dead = false;
        self.stuck = false;
        self.stream = None;
        self.position = None;
    }

    /// It says what is odd in its copy of `stream`.
    pub(super) fn on_notes(&mut self, stream: StreamId, tally: &Tally) {
        if self.stream == Some(stream) {
            self.notes = tally.bounded();
        }
    }

    /// Its copy of `stream` is whole, with so many plain bytes. That is stronger than what others thought of it.
    pub(super) fn on_complete(&mut self, stream: StreamId, total: u64) {
        if self.stream != Some(stream) {
            return;
        }
        self.total = Some(total);
        if self.failure.as_ref().is_some_and(|failure| failure.transient || self.dead) {
            self.acquit();
        }
        if self.phase == Phase::Receiving {
            self.finishes();
        }
    }

    fn acquit(&mut self) {
        log::info!("{} is complete all the same", self.label());
        self.failure = None;
        self.dead = false;
        self.stuck = false;
        self.confessed = false;
        self.finishes();
    }

    /// It has all, and has told of no step since.
    fn finishes(&mut self) {
        self.phase = Phase::Finishing;
        self.doing = None;
        (self.step_since, self.works_since) = (clock::now(), clock::now());
    }

    /// It has nothing more to do: its copy is whole, or nothing is left of it. What is said of an earlier round, and
    /// said again after an outage, is neither.
    pub(super) fn on_done(&mut self) {
        if self.is_failed() && !self.confessed && self.total.is_some() {
            // It was only silent for too long.
            self.acquit();
        }
        self.done = if self.is_failed() { self.confessed } else { self.total.is_some() };
    }

    /// It says that it failed.
    pub(super) fn on_failed(&mut self, mut failure: Failure) {
        if let Some(text) = failure.kind.text_mut() {
            shorten(text, MAX_REASON);
        }
        if failure.stream.is_some() && failure.stream != self.stream {
            log::debug!("{} tells of an earlier round again: {}", self.label(), failure.kind);
            return;
        }
        self.confessed = true;
        let failure = self.judge_deceit(failure);
        if let Some(known) = &mut self.failure {
            // Whoever says so is not dead. Its own word tells best whether another attempt makes sense; but that it was
            // given up while it hung is no transient cause.
            known.transient = failure.transient && !self.stuck;
            self.dead = false;
        }
        self.fail(failure);
    }

    /// Who is deceived gets another attempt. But nobody stands between the first node and the golden node: what is wrong
    /// there is wrong in the node itself.
    fn judge_deceit(&self, failure: Failure) -> Failure {
        let Some(from) = self.deceived_by.as_ref().filter(|_| failure.transient) else { return failure };
        let from_golden = self.position == Some(1);
        let by = (!from_golden).then(|| from.clone());
        let kind = FailureKind::Deceived { reason: failure.kind.to_string(), by };
        Failure { kind, transient: !from_golden, ..failure }
    }

    /// It waits for another attempt, or would if its connection were not lost at this moment.
    pub(super) fn may_wait_again(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.transient) && self.done && !self.dismissed
    }

    /// It waits for another attempt.
    pub(super) fn waits_again(&self) -> bool {
        self.may_wait_again() && self.connection.is_some()
    }

    /// Nobody has to wait for it any more.
    pub(super) fn has_left(&self) -> bool {
        // A writer that hangs for ever keeps its node from saying goodbye.
        let words = if self.stuck { LAST_WORDS_OF_THE_STUCK } else { LAST_WORDS };
        let late = self.is_failed() && self.failed_at.is_some_and(|at| clock::now() - at > words);
        self.dismissed || self.is_lost() || late || self.phase == Phase::Complete
    }

    /// It is dead, or has failed and does not speak any more.
    pub(super) fn is_lost(&self) -> bool {
        self.dead || self.is_failed() && (self.connection.is_none() || self.dismissed)
    }

    /// Gives it up because it made no progress at a step.
    pub(super) fn give_up(&mut self, failure: Failure) {
        self.fail(failure);
        self.stuck = true;
    }

    /// Whether this is `former`, which took part before, started again: the same copy on the same machine. What another
    /// receiver on the machine has failed to get, this one does not get.
    pub(super) fn takes_the_place_of(&self, former: &Self) -> bool {
        let is_new = !self.chosen && self.id() != former.id();
        is_new
            && former.chosen
            && former.is_lost()
            && self.place == former.place
            && self.is_same_machine(former)
    }

    /// Whether both are the same machine, as far as can be told: by their cards, or where none is told by
    /// address and name.
    pub(super) fn is_same_machine(&self, other: &Self) -> bool {
        match (self.mac(), other.mac()) {
            (Some(mine), Some(theirs)) => mine == theirs,
            (None, None) => {
                let name = |node: &Self| node.inventory.hostname.clone();
                self.peer == other.peer && name(self) == name(other)
            }
            _ => false,
        }
    }

    /// It begins with a step. Only another one counts: whoever says the same again is not further on.
    pub(super) fn on_step(&mut self, mut doing: Doing) {
        if self.phase == Phase::Planned {
            self.phase = Phase::Preparing;
        }
        shorten(&mut doing.what, MAX_STEP);
        if self.doing.as_ref() != Some(&doing) {
            self.doing = Some(doing);
            self.step_since = self.heard_at;
        }
    }

    /// The step that it is at, or what it does if it has told of none.
    pub(super) fn step(&self) -> Step {
        match (&self.doing, self.phase) {
            (Some(doing), _) => doing.step,
            (None, Phase::Finishing) => Step::Finish,
            (None, _) => Step::Begin,
        }
    }

    /// It works, and has done so for this long, whatever steps it told of.
    pub(super) fn at_work(&self) -> Option<Duration> {
        self.at_one_step().map(|_| clock::now() - self.works_since)
    }

    /// It works, and has been at one step of that for this long.
    pub(super) fn at_one_step(&self) -> Option<Duration> {
        let works = matches!(self.phase, Phase::Planned | Phase::Preparing | Phase::Finishing);
        works.then(|| clock::now() - self.step_since)
    }

    /// It receives, and for how long its writer has taken nothing although there was something to take.
    pub(super) fn takes_nothing(&self) -> Option<Duration> {
        (self.phase == Phase::Receiving).then(|| clock::now() - self.taken_at.max(self.idle_at))
    }

    /// The same for a node that has all of the stream since `released`: it still has to write everything out.
    pub(super) fn writes_nothing(&self, released: Instant) -> Option<Duration> {
        (self.phase == Phase::Receiving).then(|| clock::now() - self.taken_at.max(released))
    }

    /// Its writer has taken all that has come.
    pub(super) fn has_taken_all(&self) -> bool {
        self.progress.written >= self.progress.verified
    }

    /// Records the first reason; what follows from it is not told again.
    pub(super) fn fail(&mut self, failure: Failure) {
        if self.failure.is_none() {
            log::error!("{}: {} failed: {}", self.label(), failure.step, failure.kind);
            self.failure = Some(failure);
            self.failed_at = Some(clock::now());
        }
        self.phase = Phase::Failed;
    }

    pub(super) fn is_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// What its log's file is called: nothing else that it says becomes a path.
    pub(super) fn log_name(&self) -> String {
        self.mac().map_or_else(|| self.peer.to_string(), |mac| mac.to_string()).replace(':', "-")
    }

    /// What is shown of it; `plain` turns sealed bytes into bytes of the plain stream, and a round may follow
    /// if there are `more_rounds`.
    pub(super) fn status(&self, plain: impl Fn(u64) -> u64, more_rounds: bool) -> NodeStatus {
        let transient = self.dead || self.failure.as_ref().is_some_and(|failure| failure.transient);
        NodeStatus {
            mac: self.mac(),
            address: self.peer,
            hostname: self.inventory.hostname.clone(),
            phase: self.phase,
            received: self.total.unwrap_or_else(|| plain(self.progress.verified.0)),
            rate: plain(self.rate.per_second),
            round: self.round,
            position: self.position,
            may_come_again: more_rounds && transient,
            doing: self.doing.clone(),
            notes: self.notes.clone(),
            failure: self.failure.clone(),
        }
    }
}

/// Cuts a text that somebody else has sent, at a character's border.
fn shorten(text: &mut String, most: usize) {
    if text.len() > most {
        let border = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(border);
        text.push_str(" ...");
    }
}

/// Bytes a second between the last two reports that lie a second apart.
#[derive(Default)]
struct Rate {
    since: Option<(Instant, u64)>,
    per_second: u64,
}

impl Rate {
    fn add(&mut self, position: u64) {
        let now = clock::now();
        let Some((then, before)) = self.since else {
            self.since = Some((now, position));
            return;
        };
        let millis = u64::try_from(now.duration_since(then).as_millis()).unwrap_or(u64::MAX);
        if millis >= 1000 {
            self.per_second = position.saturating_sub(before).saturating_mul(1000) / millis;
            self.since = Some((now, position));
        }
    }
}
