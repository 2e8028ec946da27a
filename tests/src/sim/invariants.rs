//! The invariants after every step, judged by the simulator's own knowledge: the generated stream, and the
//! blocks delivered undamaged.

use std::fmt;
use std::time::Duration;

use ka::chain::{Epoch, Offset, Plaintext};
use ka::seal::Block;

use super::network::HostId;
use super::world::World;

/// A violated invariant.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The invariant.
    pub invariant: &'static str,
    /// The time.
    pub at: Duration,
    /// The facts.
    pub detail: String,
    /// The last events before it, if the run was traced.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        write!(f, "{} at {:?}: {}", self.invariant, self.at, self.detail)
    }
}

impl std::error::Error for Violation {}

/// Up to this number of members, each one is checked individually.
pub(super) const FEW: usize = 100;

/// The data by which a host is judged, apart from its member's state.
#[derive(Default)]
pub(super) struct Judged {
    /// Blocks that reached it undamaged and in order, and that it accepted.
    proven: usize,
    tail: Offset,
    epoch: Epoch,
}

impl World<'_> {
    pub(super) fn check(
        &mut self,
        holds: bool,
        invariant: &'static str,
        detail: impl FnOnce(&Self) -> String,
    ) -> Verdict {
        if holds {
            return Ok(());
        }
        let detail = detail(self);
        let trace = self.trace.take().map_or_else(Vec::new, Vec::from);
        Err(Violation { invariant, at: self.now, detail, trace })
    }

    /// Records how a member handled a block.
    pub(super) fn prove(&mut self, host: HostId, block: &Block, from: HostId) {
        let next = self.hosts[host].judged.proven;
        let forged = || self.schedule.proves() && self.is_forgery(next, block);
        let stream = std::rc::Rc::clone(&self.hosts[host].data);
        let is_true = stream.blocks.get(next) == Some(block);
        if (is_true || forged()) && stream.ends.get(next) == Some(&self.hosts[host].member.verified()) {
            let node = &mut self.hosts[host];
            node.judged.proven += 1;
            if !is_true {
                node.deceivers.insert(from);
            }
        }
    }

    /// The end offset of a member's undamaged bytes.
    pub(super) fn proven(&self, host: HostId) -> Offset {
        if host == 0 {
            return self.hosts[0].member.verified();
        }
        let blocks = self.hosts[host].judged.proven;
        blocks
            .checked_sub(1)
            .and_then(|last| self.hosts[host].data.ends.get(last).copied())
            .unwrap_or_default()
    }

    /// All invariants that a step of `host` can violate.
    pub(super) fn judge_step(&mut self, host: HostId) -> Verdict {
        invariant_verified_is_true(self, host)?;
        invariant_window_bounds_memory(self, host)?;
        invariant_epochs_only_rise(self, host)?;
        let tail = self.hosts[host].member.tail_position();
        let before = std::mem::replace(&mut self.hosts[host].judged.tail, tail);
        if before != tail {
            invariant_tail_never_falls(self, host, before)?;
            invariant_tail_is_verified_behind(self, host)?;
        }
        invariant_nothing_is_forgotten_above_the_tail(self, host)
    }
}

pub(super) type Verdict = Result<(), Violation>;

/// No writer misses a byte, gets one twice, or gets them out of order; liars' bytes are counted only.
pub(super) fn invariant_writer_sees_the_stream(
    world: &mut World,
    host: HostId,
    plaintext: &Plaintext,
) -> Verdict {
    let at = world.hosts[host].plaintext;
    let stream = std::rc::Rc::clone(&world.hosts[host].data);
    let end = at + plaintext.bytes.len();
    let last =
        |total| end == stream.plaintext.len() && total == stream.total && plaintext.end == stream.end();
    let is_true =
        stream.plaintext.get(at..end) == Some(&plaintext.bytes[..]) && plaintext.total.is_none_or(last);
    let holds = is_true || !world.hosts[host].deceivers.is_empty() && end <= stream.plaintext.len();
    world.check(holds, "writer sees the stream", |_| {
        format!("host {host} has written {at} bytes and is given {} others", plaintext.bytes.len())
    })
}

/// Everything that a member calls verified has reached it undamaged.
fn invariant_verified_is_true(world: &mut World, host: HostId) -> Verdict {
    let (said, proven) = (world.hosts[host].member.verified(), world.proven(host));
    world.check(said == proven, "verified is true", |_| {
        format!("host {host} says {said:?}, undamaged bytes end at {proven:?}")
    })
}

/// A member keeps no more than its window; the golden node's window limits how far it runs ahead.
fn invariant_window_bounds_memory(world: &mut World, host: HostId) -> Verdict {
    let member = &world.hosts[host].member;
    let kept = member.verified().since(member.floor());
    let ahead = if host == 0 { member.verified().since(member.tail_position()) } else { 0 };
    let window = world.schedule.window;
    world.check(kept <= window && ahead <= window, "window bounds memory", |_| {
        format!("host {host} keeps {kept} bytes and is {ahead} ahead, with a window of {window}")
    })
}

fn invariant_epochs_only_rise(world: &mut World, host: HostId) -> Verdict {
    let epoch = world.hosts[host].member.epoch().unwrap_or_default();
    let before = std::mem::replace(&mut world.hosts[host].judged.epoch, epoch);
    world.check(epoch >= before, "epochs only rise", |_| format!("host {host}: {epoch:?} after {before:?}"))
}

fn invariant_tail_never_falls(world: &mut World, host: HostId, before: Offset) -> Verdict {
    let tail = world.hosts[host].member.tail_position();
    world.check(tail >= before, "T never falls", |_| format!("host {host}: {tail:?} after {before:?}"))
}

/// T is never higher than the verified offset of any living member behind.
fn invariant_tail_is_verified_behind(world: &mut World, host: HostId) -> Verdict {
    let place = world.places[host];
    // A node may still relay the stream of a controller that was killed.
    let is_old = !std::rc::Rc::ptr_eq(&world.hosts[host].data, &world.stream);
    if world.released || is_old || world.chain.get(place) != Some(&host) {
        return Ok(());
    }
    let tail = world.hosts[host].member.tail_position();
    let mut behind = world.chain[place + 1..].iter().copied().filter(|behind| world.hosts[*behind].lives());
    // In a very long chain by induction: each member's T is at most its successor's, and the last member's T
    // is its own verified offset.
    let low = if world.chain.len() > FEW {
        behind.next().filter(|behind| world.hosts[*behind].member.tail_position() < tail)
    } else {
        behind.find(|behind| world.proven(*behind) < tail)
    };
    let low = low.or_else(|| (world.proven(host) < tail).then_some(host));
    world.check(low.is_none(), "T is verified by all behind", |world| {
        let low = low.unwrap_or_default();
        format!("host {host} says {tail:?}, but host {low} is at {:?}", world.proven(low))
    })
}

/// No member frees data that a member behind it may need.
fn invariant_nothing_is_forgotten_above_the_tail(world: &mut World, host: HostId) -> Verdict {
    let member = &world.hosts[host].member;
    let (floor, tail) = (member.floor(), member.tail_position());
    world.check(floor <= tail, "nothing is forgotten above T", |_| {
        format!("host {host} has forgotten all before {floor:?}, its T is {tail:?}")
    })
}

/// A node is removed only if a fault has hit it or one of its links. A liar's complaint about it counts only
/// while the node makes no progress, and each liar costs at most one node its place.
pub(super) fn invariant_only_the_faulty_are_expelled(
    world: &mut World,
    host: HostId,
    alive: bool,
) -> Verdict {
    let node = &world.hosts[host];
    if node.suspect {
        return Ok(());
    }
    let (now, dead_after) = (world.now, world.schedule.dead_after);
    let stands = |since: Duration, time: Duration| now.saturating_sub(since) >= time;
    let stands_still = if alive {
        stands(node.heard.moved, dead_after / 3 * 2)
    } else {
        stands(world.hosts[0].heard.moved, dead_after / 4)
    };
    let said_by = node.slandered_by.len();
    world.outcome.slandered += 1;
    let liars = world.schedule.malice.iter().filter(|malice| malice.accuses).count();
    let holds = (said_by > 1 || said_by == 1 && stands_still) && world.outcome.slandered <= liars;
    world.check(holds, "only the faulty are expelled", |world| {
        let host = &world.hosts[host];
        format!(
            "nothing had happened to it, last heard of at {:?}, {liars} liars, it is slandered by {:?}: {:?}",
            host.heard.moved, host.slandered_by, world.gone
        )
    })
}

/// A copy that counts as complete contains no byte that the golden node never sent.
pub(super) fn invariant_a_copy_is_the_golden_nodes(world: &mut World, host: HostId) -> Verdict {
    let node = &world.hosts[host];
    let holds = !node.deceived && node.plaintext == node.data.plaintext.len();
    world.check(holds, "a copy is the golden node's", |world| {
        format!("host {host} is complete, and was deceived by {:?}", world.hosts[host].deceivers)
    })
}

/// Only a deceived node reports a forgery.
pub(super) fn invariant_forgeries_are_found_where_there_are_some(world: &mut World, host: HostId) -> Verdict {
    let deceived = !world.hosts[host].deceivers.is_empty();
    world.check(deceived, "forgeries are found where there are some", |_| {
        format!("host {host} received nothing but the golden node's blocks")
    })
}

/// The node that an honest node accuses did send it forged data.
pub(super) fn invariant_who_is_named_has_forged(world: &mut World, host: HostId, named: HostId) -> Verdict {
    let holds = world.hosts[host].deceivers.contains(&named);
    world.check(holds, "who is named has forged", |world| {
        format!("host {host} names host {named}, and it was {:?}", world.hosts[host].deceivers)
    })
}

/// A node is removed for slowness only if it or one of its neighbours was hit: of a slow link, one end is
/// removed, and if all data that may be sent fit into the links, either of the two links of a slow card may
/// appear slow.
pub(super) fn invariant_only_the_slow_are_bypassed(world: &mut World, host: HostId, reason: &str) -> Verdict {
    let hit = |pair: &[HostId]| pair.contains(&host) && pair.iter().any(|host| world.hosts[*host].suspect);
    let holds = world.chain.windows(2).any(hit);
    world.check(holds, "only the slow are bypassed", |world| {
        format!("host {host} is not slow, and yet: {reason}; chain {:?}", world.chain)
    })
}

/// At release, every living member has the whole stream.
pub(super) fn invariant_everybody_has_everything_at_release(world: &mut World) -> Verdict {
    let end = world.stream.end();
    let lacking =
        world.chain.iter().copied().find(|host| world.hosts[*host].lives() && world.proven(*host) != end);
    world.check(lacking.is_none(), "everybody has everything at release", |world| {
        let host = lacking.unwrap_or_default();
        format!("host {host} is at {:?} of {end:?}", world.proven(host))
    })
}

/// Whether no event is left to happen: the session has ended, and every living node has left it.
pub(super) fn is_settled(world: &World) -> bool {
    let has_ended = !world.hub.is_dead && world.hub.session.ending().is_some();
    has_ended && (1..world.hosts.len()).all(|host| world.is_done(host))
}

/// Every session ends within a bounded time after the last disturbance.
pub(super) fn invariant_nothing_stalls(world: &mut World) -> Verdict {
    let limit = world.disturbed + world.patience;
    world.check(world.now <= limit, "nothing stalls", |world| {
        let waiting: Vec<String> = world
            .hosts
            .iter()
            .enumerate()
            .filter(|(host, _)| *host == 0 || !world.is_done(*host))
            .map(|(host, node)| {
                format!(
                    "\n    host {host}: {:?}, {:?}, verified {:?}, written {:?}, T {:?}, epoch {:?}",
                    node.power,
                    node.fate,
                    node.member.verified(),
                    node.member.written(),
                    node.member.tail_position(),
                    node.member.epoch()
                )
            })
            .collect();
        let session = world.hub.session.book();
        format!(
            "released: {}; chain {:?}; session {:?}; waiting:{}",
            world.released,
            world.chain,
            session.ending(),
            waiting.concat()
        )
    })
}
