//! Compares the run's report with what is on the disks.

use std::collections::{BTreeMap, BTreeSet};

use ka::mac::Mac;
use ka::session::status::{NodeStatus, Phase, RunStatus};

use super::machine::{Disk, Machine};
use super::{Tally, Violation};

/// The verdict on a night whose run has ended with `report`. `seen` are the machines that have ever joined.
pub(super) fn judge(
    machines: &[Machine],
    report: &RunStatus,
    seen: &BTreeSet<Mac>,
) -> Result<Tally, Violation> {
    let mut told: BTreeMap<Mac, &NodeStatus> = BTreeMap::new();
    for node in &report.nodes {
        let mac = node.mac.ok_or_else(|| Violation("the report has a node without an address".into()))?;
        if told.insert(mac, node).is_some() {
            return Err(Violation(format!("{mac} is in the report twice")));
        }
    }
    let mut tally = Tally { nights: 1, ..Tally::default() };
    for machine in machines {
        let (mac, has_clone) = (machine.mac, machine.disk == Disk::Clone);
        let node = told.get(&mac);
        let says_complete = node.is_some_and(|node| node.phase == Phase::Complete);
        let fault = machine.plan.fault;
        if says_complete && !has_clone {
            return Err(Violation(format!(
                "FALSE SUCCESS: {mac} ({fault:?}) is complete, and has {:?}",
                machine.disk
            )));
        }
        match node {
            Some(node) if says_complete => {
                if let Some(failure) = &node.failure {
                    return Err(Violation(format!("{mac} is complete, and has failed: {failure}")));
                }
            }
            Some(node) => {
                if node.phase != Phase::Failed || node.failure.is_none() {
                    return Err(Violation(format!(
                        "{mac} ({fault:?}) ends as {:?} without a reason",
                        node.phase
                    )));
                }
                tally.failed += 1;
                if let Some(failure) = node.failure.as_ref().filter(|_| fault.is_healthy()) {
                    let how = format!("{} in round {}: {}", failure.step, node.round, failure.kind);
                    *tally.undeserved.entry(how).or_default() += 1;
                }
            }
            // The report names it as one that never appeared, or as one that had gone before the run began.
            None => {
                if machine.erasures > 0 {
                    return Err(Violation(format!(
                        "{mac} ({fault:?}) was erased, and the report does not have it"
                    )));
                }
                if fault.is_healthy() && !seen.contains(&mac) {
                    return Err(Violation(format!("{mac} was awake, and never seen")));
                }
                tally.missing += 1;
            }
        }
        let (all, cloned) = if fault.is_healthy() {
            (&mut tally.healthy, &mut tally.cloned)
        } else {
            (&mut tally.faulty, &mut tally.faulty_cloned)
        };
        *all += 1;
        *cloned += u64::from(says_complete && has_clone);
    }
    Ok(tally)
}
