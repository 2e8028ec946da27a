//! The invariants of the session: who may be erased, who is served, and what everybody learns about it.

use std::collections::BTreeMap;

use ka::chain::NodeId;
use ka::mac::Mac;
use ka::session::Book;
use ka::session::book::Terms;
use ka::session::status::Phase;
use ka::wire::control::ToAgent;

use super::host::Fate;
use super::hub::mac_of;
use super::invariants::Verdict;
use super::network::HostId;
use super::world::World;

/// No machine is erased that was not admitted, or was dismissed with its copy.
pub(super) fn invariant_only_the_admitted_are_erased(world: &mut World, host: HostId) -> Verdict {
    let is_admitted = world.admitted.contains(&mac_of(host));
    let holds = is_admitted && !world.hosts[host].is_served;
    world.check(holds, "only the admitted are erased", |world| {
        let is_served = world.hosts[host].is_served;
        format!("host {host} gets a plan; admitted: {is_admitted}, served: {is_served}")
    })
}

/// On a connection nothing follows the goodbye, or the refusal.
pub(super) fn invariant_nothing_follows_the_last_word(
    world: &mut World,
    follows: bool,
    message: &ToAgent,
) -> Verdict {
    world.check(!follows, "nothing follows the last word", |_| format!("{message:?}"))
}

/// A process that takes over does not take back what its predecessor has said: a stream that was released is
/// not given up.
pub(super) fn invariant_what_was_released_stays_so(world: &mut World, host: HostId, reason: &str) -> Verdict {
    let node = &world.hosts[host];
    let holds = !node.released || node.fate != Fate::Running || world.outcome.kills == 0;
    world.check(holds, "what was released stays so", |_| {
        format!("host {host} was released, and hears that the stream is given up: {reason}")
    })
}

/// A node says goodbye once, and never as a copy that its run does not count.
pub(super) fn invariant_everybody_learns_one_outcome(
    world: &mut World,
    host: HostId,
    is_complete: bool,
) -> Verdict {
    let node = &world.hosts[host];
    let phase = phases(world).remove(&mac_of(host));
    let holds = !node.left && (!is_complete || node.fate != Fate::Complete || phase == Some(Phase::Complete));
    world.check(holds, "everybody learns one outcome", |world| {
        let node = &world.hosts[host];
        format!("host {host}, {:?}, hears goodbye, and counts as {phase:?}; left: {}", node.fate, node.left)
    })
}

/// Neither a further round nor the end leaves out a node that waits and can be served: it was heard to wait
/// before the last stream ended, or, at the end, at all.
pub(super) fn invariant_nobody_is_left_out(world: &mut World, nodes: Option<&[NodeId]>) -> Verdict {
    let is_first = nodes.is_some() && world.outcome.rounds == 0;
    if is_first || !world.had_rounds {
        return Ok(());
    }
    let before = if nodes.is_some() { world.stream_ended } else { world.now };
    let left_out = (1..world.hosts.len()).find(|host| {
        let node = &world.hosts[*host];
        let waits = node.waits() && node.waits_since.is_some_and(|since| since <= before);
        waits && world.is_heard(*host) && nodes.is_none_or(|nodes| !nodes.contains(&node.id))
    });
    world.check(left_out.is_none(), "nobody is left out", |world| {
        let host = left_out.unwrap_or_default();
        let since = world.hosts[host].waits_since;
        format!("host {host} waits since {since:?}, and the session goes on with {nodes:?}")
    })
}

/// At the end every machine has one result, which is the right one.
pub(super) fn invariant_everybody_has_one_outcome(world: &mut World) -> Verdict {
    let fold = Book::fold(&world.hub.journal, Terms { planned: true });
    let is_fold = world.hub.session.book() == &fold;
    world.check(is_fold, "the session is the fold of its events", |_| String::new())?;
    let (status, _) = world.hub.session.status();
    let odd = status.nodes.iter().find(|node| {
        let result = (node.phase, node.failure.is_some());
        !matches!(result, (Phase::Complete, false) | (Phase::Failed, true))
    });
    let odd = odd.cloned();
    world.check(odd.is_none(), "everybody has one outcome", |_| format!("{odd:?}"))?;
    let phases = phases(world);
    let wrong = (1..world.hosts.len()).find(|host| {
        let (node, is_complete) = (&world.hosts[*host], phases.get(&mac_of(*host)) == Some(&Phase::Complete));
        // A node that was dismissed as a copy counts as one, whichever process the goodbye came from.
        is_complete && !node.has_copy || node.is_dismissed && !is_complete
    });
    world.check(wrong.is_none(), "every result is true", |world| {
        let host = wrong.unwrap_or_default();
        let (node, phase) = (&world.hosts[host], phases.get(&mac_of(host)));
        format!("host {host} counts as {phase:?}, and is {:?}; dismissed: {}", node.fate, node.is_dismissed)
    })
}

/// Each machine's result, the best if it has several nodes.
fn phases(world: &World) -> BTreeMap<Mac, Phase> {
    let mut phases = BTreeMap::new();
    for node in world.hub.session.status().0.nodes {
        let Some(mac) = node.mac else { continue };
        let known = phases.entry(mac).or_insert(node.phase);
        if node.phase == Phase::Complete {
            *known = Phase::Complete;
        }
    }
    phases
}
