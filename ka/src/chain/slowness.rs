//! Finds the nodes that are too slow for a chain: the controller judges by the members' reports.
//!
//! A member is measured against the best rate at which any member of this stream has taken blocks. A member
//! below a given share of it is to blame only if its own waiting shows it: its writer blocks its window, or
//! the link to it is full while it starves. Its neighbours are just as slow, but wait for something else.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::{NodeId, Offset};
use super::reason::Reason;
use super::shares::{Shares, Spent};

/// If a writer blocks its member's window for this share of the time, the member waits for the writer.
const BLOCKED: f64 = 0.75;
/// The default of [`SlowLimits::full`].
const FULL: f64 = 0.75;
/// The link that a chain waits for is full for at least this share of the time. A golden node that starves
/// this much is slow itself.
const HALF: f64 = 0.5;
/// Rates are measured over at least this fraction of the time after which a node counts as slow.
const PARTS: u32 = 10;
/// How many times the slowness limit a chain may stand still without any member reporting a reason. A link
/// that is cut, and reopened without success, takes far less.
const PATIENCE: u32 = 10;
/// After this many removals in a row that did not help, the whole chain is assumed to be slow.
const IN_VAIN: u32 = 2;

/// When a node is too slow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowLimits {
    /// Below this share of the best rate, from 0 (never) to 1.
    pub min_share: f64,
    /// For this long; also the minimum time between two removals.
    pub after: Duration,
    /// The share of the time for which a link must be full to be at fault: its sender blocked and its
    /// receiver starved. With windows of a few blocks, the neighbours of that link come close to it.
    pub full: f64,
}

impl Default for SlowLimits {
    fn default() -> Self {
        Self { min_share: 0.3, after: Duration::from_secs(10), full: FULL }
    }
}

/// A node to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// The node.
    pub node: NodeId,
    /// The reason, with figures.
    pub reason: Reason,
}

/// A member's report about itself, at a moment of its own clock ([`Spent::running`]).
#[derive(Clone, Copy, Debug, Default)]
pub struct ProgressSample {
    /// Where its time was spent.
    pub spent: Spent,
    /// The verified position.
    pub verified: Offset,
    /// The position up to which the writer has taken bytes.
    pub written: Offset,
}

/// The members' reports of one stream.
pub struct Slowness {
    limits: SlowLimits,
    /// The best rate so far, in bytes per second.
    best: f64,
    golden: Golden,
    chain: Vec<NodeId>,
    members: BTreeMap<NodeId, Reports>,
    /// Senders whose receiver was bypassed.
    senders: Vec<NodeId>,
    in_vain: u32,
}

/// First-hand facts from the golden node, which does not lie: its position, the lowest position of all
/// members behind it, since when that has not risen, and the best rate at which bytes have left it.
#[derive(Clone, Copy, Default)]
struct Golden {
    known: bool,
    sent: Offset,
    tail: Offset,
    rose_at: Duration,
    best: f64,
}

/// A member's last reports, as far back as they are judged.
#[derive(Default)]
struct Reports {
    samples: VecDeque<ProgressSample>,
    seen: Duration,
}

/// A member over the whole judged period.
#[derive(Clone, Copy)]
struct Period {
    shares: Shares,
    /// Verified bytes per second.
    verified: f64,
    /// Bytes per second that the writer took.
    written: f64,
}

enum Cause {
    Writer(NodeId),
    Link {
        from: NodeId,
        to: NodeId,
    },
    /// Nothing gets past it, and it claims to wait for nothing.
    Nothing(NodeId),
}

/// What all other parts wait for. Even in a healthy chain, some part is the slowest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// The part of the chain.
    pub what: Limiter,
    /// Its rate in bytes per second.
    pub rate: f64,
    /// The stream's best rate, in bytes per second.
    pub best: f64,
    /// The share of the time for which it was busy and others waited for it.
    pub busy: f64,
    /// The largest such share of any other part of the chain; 0 if there is none.
    pub others: f64,
}

/// A part of a chain that can limit its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limiter {
    /// The golden node reads and compresses no faster.
    Source,
    /// A node's disk, or whatever else takes its stream.
    Writer(NodeId),
    /// The link from a member to its successor.
    Link {
        /// The sender.
        from: NodeId,
        /// The receiver.
        to: NodeId,
    },
}

impl Limit {
    /// The part in words.
    #[must_use]
    pub fn reason(&self) -> Reason {
        let rate = format!(", {} MB/s", mega(self.rate));
        match self.what {
            Limiter::Source => "the golden node, which reads and packs no faster".into(),
            Limiter::Writer(node) => Reason::new(["the disk of ".into(), node.into(), rate.into()]),
            Limiter::Link { from, to } => {
                Reason::new(["the link from ".into(), from.into(), " to ".into(), to.into(), rate.into()])
            }
        }
    }
}

impl Slowness {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(limits: SlowLimits) -> Self {
        Self {
            limits,
            best: 0.0,
            golden: Golden::default(),
            chain: Vec::new(),
            members: BTreeMap::new(),
            senders: Vec::new(),
            in_vain: 0,
        }
    }

    /// The stream's best rate, in bytes per second.
    #[must_use]
    pub fn best(&self) -> f64 {
        self.best
    }

    /// Records the golden node's position, and the lowest position of all members behind it.
    pub fn on_golden(&mut self, sample: ProgressSample, tail: Offset, now: Duration) {
        let golden = &mut self.golden;
        if tail > golden.tail || tail == sample.verified || !golden.known {
            golden.rose_at = now;
        }
        (golden.known, golden.sent, golden.tail) = (true, sample.verified, tail);
        self.on_report(NodeId::GOLDEN, sample, now);
    }

    /// Records a report of a member or of the golden node itself. Reports that come too often are skipped.
    ///
    /// A member may lie. So it is never further than the golden node, it has at least what all members have,
    /// and its rate is never above that at which bytes left the golden node.
    pub fn on_report(&mut self, node: NodeId, mut sample: ProgressSample, now: Duration) {
        let after = self.limits.after;
        let golden = self.golden;
        if node != NodeId::GOLDEN && golden.known {
            sample.verified = sample.verified.clamp(golden.tail.min(golden.sent), golden.sent);
            sample.written = sample.written.min(sample.verified);
        }
        let reports = self.members.entry(node).or_default();
        reports.seen = now;
        let samples = &mut reports.samples;
        if let Some(last) = samples.back() {
            let (then, running) = (last.spent.running, sample.spent.running);
            if running < then || sample.verified < last.verified {
                // A report about another stream.
                samples.clear();
            } else if running - then < after / (2 * PARTS) {
                return;
            }
        }
        samples.push_back(sample);
        // The first report is measured from the stream's start.
        let start = ProgressSample::default();
        let earlier = samples.iter().rev().chain([&start]);
        let recent = earlier
            .filter_map(|earlier| sample.period(earlier))
            .find(|period| period.shares.over >= after / PARTS)
            .map_or(0.0, |period| period.verified);
        if node == NodeId::GOLDEN {
            self.golden.best = self.golden.best.max(recent);
        } else {
            let possible = if golden.known { recent.min(golden.best) } else { recent };
            self.best = self.best.max(possible);
        }
        while samples.get(1).and_then(|second| sample.period(second)).is_some_and(|p| p.shares.over >= after)
        {
            samples.pop_front();
        }
    }

    /// The node of `chain` (from the golden node) to remove now. `end` is where the stream ends, once the
    /// golden node knows it.
    #[must_use]
    pub fn judge(&mut self, chain: &[NodeId], end: Option<Offset>, now: Duration) -> Option<Slow> {
        self.note_chain(chain);
        let alone = chain.len() <= 2 && !chain.last().is_some_and(|last| self.senders.contains(last));
        if self.period(NodeId::GOLDEN, now)?.shares.starved >= HALF {
            // A slow source is no node's fault.
            return None;
        }
        if alone {
            // A single node holds up no other, unless others were removed that may only have waited for it.
            return self.judge_standstill(chain, now);
        }
        let Some((cause, rate)) = self.cause(now) else {
            self.note_health(now);
            return self.judge_standstill(chain, now);
        };
        let (Cause::Writer(slow) | Cause::Link { to: slow, .. } | Cause::Nothing(slow)) = cause;
        if end.is_some_and(|end| self.ends_soon(slow, end, rate)) {
            return None;
        }
        let golden_again = matches!(cause, Cause::Link { from: NodeId::GOLDEN, .. })
            && self.senders.contains(&NodeId::GOLDEN);
        if golden_again || self.in_vain >= IN_VAIN {
            self.best = rate;
            self.in_vain = 0;
            return None;
        }
        let reason = self.reason(&cause, rate, now)?;
        let node = self.culprit(cause);
        self.in_vain += 1;
        self.members.clear();
        Some(Slow { node, reason })
    }

    /// The node that lets nothing through without a reason. That is not slowness: even the last node is
    /// removed for it.
    #[must_use]
    pub fn judge_standstill(&mut self, chain: &[NodeId], now: Duration) -> Option<Slow> {
        self.note_chain(chain);
        let node = self.withholds(now)?;
        let reason = self.reason(&Cause::Nothing(node), 0.0, now)?;
        self.members.clear();
        self.golden.rose_at = now;
        Some(Slow { node, reason })
    }

    /// Measures all members again if the change affects which node waits for which.
    fn note_chain(&mut self, chain: &[NodeId]) {
        if self.chain != chain {
            self.chain = chain.to_vec();
            self.members.clear();
        }
    }

    /// What all other parts wait for now.
    #[must_use]
    pub fn limit(&self, chain: &[NodeId], now: Duration) -> Option<Limit> {
        let golden = self.period(NodeId::GOLDEN, now)?;
        let (what, rate) = if golden.shares.starved >= HALF {
            (Limiter::Source, golden.verified)
        } else {
            match self.slowest(chain, HALF, now)? {
                (Cause::Writer(node), rate) => (Limiter::Writer(node), rate),
                (Cause::Link { from, to }, rate) => (Limiter::Link { from, to }, rate),
                (Cause::Nothing(_), _) => return None,
            }
        };
        let parts = self.parts(chain, now);
        let busy = parts.iter().find(|(part, _)| *part == what).map_or(0.0, |(_, busy)| *busy);
        let others = parts.iter().filter(|(part, _)| *part != what).map(|(_, busy)| *busy);
        // The source is not a member that reports its own rate, and it may be the fastest of all.
        Some(Limit { what, rate, best: self.best.max(rate), busy, others: others.fold(0.0, f64::max) })
    }

    /// All known parts of the chain, with the share of the time for which each was busy and others waited for
    /// it.
    fn parts(&self, chain: &[NodeId], now: Duration) -> Vec<(Limiter, f64)> {
        let period = |node: &NodeId| Some((*node, self.period(*node, now)?));
        let writer = |(node, period): (NodeId, Period)| match node {
            NodeId::GOLDEN => (Limiter::Source, period.shares.starved),
            node => (Limiter::Writer(node), period.shares.writer),
        };
        let link = |(from, to)| {
            let ((from, sender), (to, receiver)) = (period(from)?, period(to)?);
            Some((Limiter::Link { from, to }, sender.shares.output.min(receiver.shares.starved)))
        };
        let links = chain.iter().zip(chain.iter().skip(1)).filter_map(link);
        chain.iter().filter_map(period).map(writer).chain(links).collect()
    }

    /// The writer or link that holds up the chain, with its rate, if it is too slow.
    fn cause(&self, now: Duration) -> Option<(Cause, f64)> {
        let limit = self.best * self.limits.min_share;
        self.slowest(&self.chain, self.limits.full, now).filter(|(_, rate)| *rate < limit)
    }

    /// The writer or link that all others wait for: the slower one, if there are both. A link counts if it is
    /// full for at least the share `full` of the time.
    fn slowest(&self, chain: &[NodeId], full: f64, now: Duration) -> Option<(Cause, f64)> {
        let period = |node: &NodeId| self.period(*node, now);
        let writer = chain
            .iter()
            .filter(|node| **node != NodeId::GOLDEN)
            .filter_map(|node| Some((*node, period(node)?)))
            .filter(|(_, member)| member.shares.writer >= BLOCKED)
            .min_by(|(_, a), (_, b)| a.written.total_cmp(&b.written))
            .map(|(node, member)| (Cause::Writer(node), member.written));
        // Of two full links in a row, the first one: its receiver shows both. The receiver may report it a
        // little later.
        let link = chain.iter().zip(chain.iter().skip(1)).find_map(|(from, to)| {
            let (sender, receiver) = (period(from)?, period(to)?);
            let is_full = sender.shares.output >= full && receiver.shares.starved >= full;
            is_full.then_some((Cause::Link { from: *from, to: *to }, receiver.verified))
        });
        [writer, link].into_iter().flatten().min_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// The node that lets nothing through, although by its own report neither its writer nor the link behind
    /// it holds it up. If all nodes report the truth, a stalled chain waits for one of those.
    fn withholds(&self, now: Duration) -> Option<NodeId> {
        let stands_still = now.saturating_sub(self.golden.rose_at) >= self.limits.after * PATIENCE;
        if !self.golden.known || !stands_still {
            return None;
        }
        let members: Vec<(NodeId, Shares)> =
            self.chain.iter().filter_map(|id| Some((*id, self.period(*id, now)?.shares))).collect();
        if members.len() < self.chain.len() {
            return None;
        }
        // All nodes before it have what they can take, and all behind it starve.
        let starves = |(_, shares): &&(NodeId, Shares)| shares.starved >= HALF;
        let first = members.iter().skip(1).position(|member| starves(&member)).map(|place| place + 1);
        let place = first.map_or(members.len() - 1, |first| first.saturating_sub(1).max(1));
        let (node, shares) = members.get(place)?;
        let excused = shares.writer >= HALF || shares.output >= HALF;
        (!excused).then_some(*node)
    }

    /// Whether the stream ends so soon that removing a node would gain nothing.
    fn ends_soon(&self, node: NodeId, end: Offset, rate: f64) -> bool {
        let last = self.members.get(&node).and_then(|reports| reports.samples.back());
        last.is_some_and(|last| bytes(end.since(last.verified)) <= rate * self.limits.after.as_secs_f64())
    }

    /// The receiver of a slow link, or its sender if another link of that sender was slow before.
    fn culprit(&mut self, cause: Cause) -> NodeId {
        match cause {
            Cause::Writer(node) | Cause::Nothing(node) => node,
            Cause::Link { from, .. } if self.senders.contains(&from) => from,
            Cause::Link { from, to } => {
                self.senders.push(from);
                to
            }
        }
    }

    /// Records that earlier removals have helped, when the chain runs at its usual rate again.
    fn note_health(&mut self, now: Duration) {
        let limit = self.best * self.limits.min_share;
        let healthy = |node: &NodeId| self.period(*node, now).is_some_and(|member| member.verified >= limit);
        if self.in_vain > 0 && self.chain.iter().all(healthy) {
            self.in_vain = 0;
            self.senders.clear();
        }
    }

    fn reason(&self, cause: &Cause, rate: f64, now: Duration) -> Option<Reason> {
        let figures = format!("{} MB/s where the chain took {} MB/s", mega(rate), mega(self.best));
        Some(match cause {
            Cause::Writer(node) => {
                let writer = percent(self.period(*node, now)?.shares.writer);
                Reason::new([format!("took {figures}, its writer blocked {writer} % of the time").into()])
            }
            Cause::Link { from, to } => {
                let output = percent(self.period(*from, now)?.shares.output);
                let starved = percent(self.period(*to, now)?.shares.starved);
                let told = format!(
                    " took {figures}, its sender blocked {output} % of the time while its receiver starved {starved} %"
                );
                let (from, to) = ((*from).into(), (*to).into());
                Reason::new(["the link from ".into(), from, " to ".into(), to, told.into()])
            }
            Cause::Nothing(_) => {
                let time = now.saturating_sub(self.golden.rose_at).as_secs();
                Reason::new([
                    format!("let nothing through for {time} s, and says that it waits for nothing").into()
                ])
            }
        })
    }

    /// A member over the judged period; `None` if that is not known yet, or no longer.
    fn period(&self, node: NodeId, now: Duration) -> Option<Period> {
        let reports = self.members.get(&node)?;
        if now.saturating_sub(reports.seen) > self.limits.after {
            return None;
        }
        let period = reports.samples.back()?.period(reports.samples.front()?)?;
        (period.shares.over >= self.limits.after).then_some(period)
    }
}

impl ProgressSample {
    fn period(&self, earlier: &Self) -> Option<Period> {
        let shares = self.spent.since(&earlier.spent)?;
        let rate = |now: Offset, then: Offset| bytes(now.since(then)) / shares.over.as_secs_f64();
        Some(Period {
            shares,
            verified: rate(self.verified, earlier.verified),
            written: rate(self.written, earlier.written),
        })
    }
}

/// A byte count as a float. Streams are far smaller than the sizes at which a double becomes inexact.
fn bytes(count: u64) -> f64 {
    count as f64
}

fn mega(rate: f64) -> String {
    let mega = rate / 1e6;
    if mega < 10.0 { format!("{mega:.1}") } else { format!("{mega:.0}") }
}

fn percent(share: f64) -> String {
    format!("{:.0}", share * 100.0)
}

#[cfg(test)]
mod tests;
