//! The machines of a run before it begins: who has come, and who may be erased.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use ka_host::terminal;

use super::options::run::RunArgs;
use super::select::{self, Dialogue, Permission, Selected};
use crate::exit::{Exit, Outcome};
use crate::hub::Hub;
use crate::rendezvous::lease::{Allowed, HeldLease};
use crate::view::dry_run;
use crate::view::machines::{self, Code};
use ka::session::Admission;
use ka::session::{Arrival, Target};

/// How often the waiting machines are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Waits for the machines; none if nobody has come in time.
///
/// A machine whose disks are not as the plan wants them counts: else a run for three machines, one of which has a
/// smaller disk, would wait for ever.
///
/// # Errors
/// The hub has ended.
pub(super) fn machines(
    args: &RunArgs,
    hub: &Hub,
    permission: &Permission,
    target: &Target,
) -> anyhow::Result<Option<Vec<Arrival>>> {
    let wanted = args.wanted()?;
    let start = Instant::now();
    let (mut seen, code) = (BTreeSet::new(), Code::of(args.confirm_codes));
    loop {
        let Some(snapshot) = hub.snapshot(&args.session) else {
            bail!("no session {} is held", args.session)
        };
        let arrivals: Vec<Arrival> =
            snapshot.arrivals.into_iter().filter(|arrival| permission.admits(arrival.mac)).collect();
        for arrival in &arrivals {
            if seen.insert(arrival.mac) {
                let report = target.report(&arrival.inventory);
                log::info!("{} of {wanted}: {}", seen.len(), machines::describe(arrival, &report, code));
            }
        }
        let late = args.stream.timeout.is_some_and(|timeout| start.elapsed() >= timeout);
        if arrivals.len() >= wanted || (late || snapshot.go) && !arrivals.is_empty() {
            return Ok(Some(arrivals));
        }
        if late {
            return Ok(None);
        }
        ensure!(!hub.has_ended(), "the hub has ended while the run waited for nodes");
        hub.wait(LOOK);
    }
}

/// Finds out which of the machines may be erased.
///
/// # Errors
/// None may.
pub(super) fn ask(
    args: &RunArgs,
    permission: &Permission,
    arrivals: &[Arrival],
    target: &Target,
) -> anyhow::Result<Selected> {
    let terminal = io::stdin().is_terminal();
    let (mut input, mut output) = (io::stdin().lock(), terminal::err());
    let dialogue = terminal.then_some(Dialogue { input: &mut input, output: &mut output });
    Ok(select::select(permission, args.wanted()?, arrivals, target, Code::of(args.confirm_codes), dialogue)?)
}

/// Shows what would become of the machines, and sends them away: they boot from their disks again.
///
/// # Errors
/// That of the lease or the output.
pub(super) fn dry_run(
    args: &RunArgs,
    hub: &Hub,
    lease: &mut HeldLease,
    arrivals: &[Arrival],
    target: &Target,
) -> Outcome {
    lease.allow(Allowed::Listed(BTreeSet::new()))?;
    let reason = "this was a dry run: nothing was written".to_owned();
    let refused = arrivals.iter().map(|arrival| (arrival.mac, reason.clone())).collect();
    hub.admit(&args.session, Admission { refused, ..Admission::default() });
    let reports: Vec<_> =
        arrivals.iter().map(|arrival| (arrival, target.report(&arrival.inventory))).collect();
    let out = &mut terminal::out();
    if args.stream.json {
        dry_run::print_json(out, &args.session, &reports)?;
    } else {
        dry_run::print(out, &reports)?;
    }
    let all = reports.iter().all(|(_, report)| report.is_accepted());
    Ok(if all { Exit::Ok } else { Exit::NodesFailed })
}
