//! Watches a session until it ends, and its nodes until they run from their own disks.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use ka::failure::{Failure, FailureKind};
use ka::step::Step;

use crate::exit::{Exit, FatalError};
use crate::hub::{Hub, Snapshot};
use crate::rendezvous::booted::Booted;
use crate::status::{Phase, RunStatus};
use crate::view::progress::ProgressView;

/// How often the view is refreshed.
const RENEW: Duration = Duration::from_millis(200);

/// Shows the session until it ends; `also` is called at each refresh.
///
/// # Errors
/// The hub ended by a fault: the state of the nodes is unknown, and they count as failed.
pub(super) fn until_over(
    hub: &Hub,
    session: &str,
    progress: &mut ProgressView,
    mut also: impl FnMut(&Snapshot),
) -> Result<Snapshot, FatalError> {
    loop {
        let Some(snapshot) = hub.snapshot(session) else {
            return Err(anyhow!("there is no session {session}").into());
        };
        progress.update(&snapshot.status, Instant::now());
        also(&snapshot);
        if snapshot.ending.is_some() {
            return Ok(snapshot);
        }
        if hub.has_ended() {
            let error = anyhow!("the hub has ended before the session {session} was over");
            return Err(FatalError { exit: Exit::NodesFailed, error });
        }
        hub.wait(RENEW);
    }
}

/// Waits until the complete nodes have reported that they run from their own disks; those that have not after
/// `time` have failed.
pub(super) fn until_booted(
    booted: &Booted,
    status: &mut RunStatus,
    progress: &mut ProgressView,
    time: Duration,
) {
    let start = Instant::now();
    loop {
        let up = booted.up();
        for node in status.nodes.iter_mut().filter(|node| node.phase == Phase::Complete) {
            if node.mac.is_some_and(|mac| up.contains(&mac)) {
                node.phase = Phase::Booted;
            }
        }
        progress.update(status, Instant::now());
        let mut missing = status
            .nodes
            .iter_mut()
            .filter(|node| node.phase == Phase::Complete && node.failure.is_none())
            .peekable();
        if missing.peek().is_none() {
            return;
        }
        let Some(left) = time.checked_sub(start.elapsed()) else {
            for node in missing {
                let kind = FailureKind::NotBooted { within: time };
                log::error!("{}: {kind}", node.label());
                node.phase = Phase::Failed;
                node.failure = Some(Failure::own(Step::FirstBoot, kind));
            }
            progress.update(status, Instant::now());
            return;
        };
        booted.wait(left.min(RENEW));
    }
}
