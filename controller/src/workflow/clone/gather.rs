//! The machines of a run before it begins: those that have joined, and those that may be erased.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use ka_host::terminal;

use super::Request;
use crate::hub::Hub;
use crate::view::machines::{self, Code};
use crate::workflow::select::{self, Dialogue, Selected};
use ka::session::{Arrival, Target};

/// How often the waiting machines are checked.
const LOOK: Duration = Duration::from_millis(500);

/// Waits for the machines; returns `None` if none arrived in time. `also` is called at each check with the
/// machines.
///
/// A machine whose disks do not match the plan counts: otherwise a run for three machines, one of which has a
/// smaller disk, would wait for ever.
///
/// # Errors
/// The hub has ended.
pub(super) fn machines(
    request: &Request<'_>,
    hub: &Hub,
    target: &Target,
    also: impl Fn(),
) -> anyhow::Result<Option<Vec<Arrival>>> {
    let Request { wanted, permission, .. } = request;
    let start = Instant::now();
    let (mut seen, code) = (BTreeSet::new(), Code::of(request.confirm_codes));
    loop {
        let Some(snapshot) = hub.snapshot(request.golden.run) else {
            bail!("there is no session {}", request.golden.run)
        };
        let arrivals: Vec<Arrival> =
            snapshot.arrivals.into_iter().filter(|arrival| permission.admits(arrival.mac)).collect();
        for arrival in &arrivals {
            if seen.insert(arrival.mac) {
                let report = target.report(&arrival.inventory);
                log::info!("{} of {wanted}: {}", seen.len(), machines::describe(arrival, &report, code));
            }
        }
        also();
        let late = request.stream.timeout.is_some_and(|timeout| start.elapsed() >= timeout);
        if arrivals.len() >= *wanted || (late || snapshot.go) && !arrivals.is_empty() {
            return Ok(Some(arrivals));
        }
        if late {
            return Ok(None);
        }
        ensure!(!hub.has_ended(), "the hub has ended while the run waited for nodes");
        hub.wait(LOOK);
    }
}

/// Determines which of the machines may be erased.
///
/// # Errors
/// No machine may be erased.
pub(super) fn ask(request: &Request<'_>, arrivals: &[Arrival], target: &Target) -> anyhow::Result<Selected> {
    let terminal = io::stdin().is_terminal();
    let (mut input, mut output) = (io::stdin().lock(), terminal::err());
    let dialogue = terminal.then_some(Dialogue { input: &mut input, output: &mut output });
    Ok(select::select(
        &request.permission,
        request.wanted,
        arrivals,
        target,
        Code::of(request.confirm_codes),
        dialogue,
    )?)
}
