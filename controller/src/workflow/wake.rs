//! Wakes the machines of a run, and retries those that do not appear.
//!
//! A machine that has appeared is never touched again: it may be writing its disk. A machine that was already
//! on is left alone, unless all are to be restarted.

use std::collections::BTreeSet;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ka::mac::Mac;
use ka::wire::session_names;

use crate::hub::Hub;
use crate::lists::node_set;
use crate::power::target::Target;
use crate::power::{Action, PowerError, State, act, many};
use crate::status::RunStatus;

/// Which machines are woken, and how.
#[derive(Clone, Debug)]
pub struct Wake {
    /// [`Action::On`] wakes those that are off, [`Action::Cycle`] restarts all.
    pub action: Action,
    /// The machines.
    pub targets: Vec<(Mac, Target)>,
    /// How long each machine may take to appear.
    pub retry: Duration,
}

/// Machines that are being woken, until this is dropped.
pub(super) struct Waking {
    targets: Vec<(Mac, Target)>,
    appeared: Arc<Mutex<BTreeSet<Mac>>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Waking {
    /// Starts waking the machines.
    pub(super) fn start(wake: &Wake) -> std::io::Result<Self> {
        let appeared: Arc<Mutex<BTreeSet<Mac>>> = Arc::default();
        let (stop, stopped) = channel::<()>();
        let (wake, seen) = (wake.clone(), Arc::clone(&appeared));
        let targets = wake.targets.clone();
        let work = move || {
            let mut ours = BTreeSet::new();
            let mut again = false;
            loop {
                wake_missing(&wake, &seen, &mut ours, again);
                again = true;
                if stopped.recv_timeout(wake.retry) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("wake".into()).spawn(work)?;
        Ok(Self { targets, appeared, stop: Some(stop), thread: Some(thread) })
    }

    /// Records which machines have appeared so far, even if only for their tools.
    pub(super) fn look(&self, hub: &Hub, run: &str) {
        let sessions = [run.to_owned(), session_names::stage2_of(run)];
        let nodes = sessions.iter().filter_map(|session| hub.snapshot(session)).flat_map(|s| s.status.nodes);
        let macs: Vec<Mac> = nodes.filter_map(|node| node.mac).collect();
        self.appeared.lock().unwrap_or_else(PoisonError::into_inner).extend(macs);
    }

    /// The machines that never appeared.
    pub(super) fn missing(&self) -> Vec<&str> {
        let appeared = self.appeared.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = self.targets.iter().filter(|(mac, _)| !appeared.contains(mac));
        missing.map(|(_, target)| target.label.as_str()).collect()
    }
}

impl Waking {
    /// The machines that appeared and took no part: they had gone before the run began, or were never
    /// admitted.
    pub(super) fn gone(&self, status: &RunStatus) -> Vec<&str> {
        let appeared = self.appeared.lock().unwrap_or_else(PoisonError::into_inner);
        let told: BTreeSet<Mac> = status.nodes.iter().filter_map(|node| node.mac).collect();
        let gone = self.targets.iter().filter(|(mac, _)| appeared.contains(mac) && !told.contains(mac));
        gone.map(|(_, target)| target.label.as_str()).collect()
    }
}

impl Drop for Waking {
    fn drop(&mut self) {
        self.stop = None;
        let missing = self.missing();
        if !missing.is_empty() {
            log::error!(
                "{} of {} machines never appeared: {}",
                missing.len(),
                self.targets.len(),
                node_set::fold(missing)
            );
        }
        // A BMC that hangs is not waited for: its request has already been sent.
        drop(self.thread.take());
    }
}

/// Wakes the machines that have not appeared. `ours` are those that were switched on here.
fn wake_missing(wake: &Wake, seen: &Mutex<BTreeSet<Mac>>, ours: &mut BTreeSet<Mac>, again: bool) {
    let appeared = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let missing: Vec<&(Mac, Target)> =
        wake.targets.iter().filter(|(mac, _)| !appeared.contains(mac)).collect();
    if missing.is_empty() {
        return;
    }
    if again {
        let labels: Vec<&str> = missing.iter().map(|(_, target)| target.label.as_str()).collect();
        let (retry, count) = (wake.retry.as_secs(), labels.len());
        log::warn!(
            "{count} machines did not appear within {retry} s, and are woken again: {}",
            node_set::fold(labels)
        );
    }
    let (mut restart, mut start) = (Vec::new(), Vec::new());
    for (mac, target) in missing {
        let is_ours = ours.contains(mac) || wake.action == Action::Cycle;
        if is_ours { restart.push((*mac, target.clone())) } else { start.push((*mac, target.clone())) }
    }
    switch(&restart, Action::Cycle, ours);
    // A machine that is on, but was not switched on here, is in use.
    let off = |(_, target): &(Mac, Target)| act(target, Action::Status, false) != Ok(State::On);
    let (start, on): (Vec<_>, Vec<_>) = start.into_iter().partition(off);
    if !on.is_empty() && !again {
        let labels = on.iter().map(|(_, target)| target.label.as_str());
        log::warn!(
            "these machines are on already and are left alone; '--power cycle' would restart them: {}",
            node_set::fold(labels)
        );
    }
    switch(&start, Action::On, ours);
}

fn switch(machines: &[(Mac, Target)], action: Action, ours: &mut BTreeSet<Mac>) {
    let targets: Vec<Target> = machines.iter().map(|(_, target)| target.clone()).collect();
    let outcomes = many::act_on_all(&targets, action, true, |target, outcome| match outcome {
        Ok(state) => log::info!("{}: {}", target.label, state.name()),
        Err(PowerError::Unsupported(why)) if action == Action::Cycle => {
            log::debug!("{}: {why}", target.label)
        }
        Err(error) => log::error!("{}: {error}", target.label),
    });
    // A card that was woken without effect is woken again, not restarted.
    let only_woken = |outcome: &Result<State, PowerError>| matches!(outcome, Ok(State::Woken) | Err(_));
    ours.extend(machines.iter().zip(&outcomes).filter(|(_, o)| !only_woken(o)).map(|((mac, _), _)| *mac));
    if action == Action::Cycle {
        // A machine that cannot be restarted may still be woken.
        let left: Vec<(Mac, Target)> = machines
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| matches!(outcome, Err(PowerError::Unsupported(_))))
            .map(|(machine, _)| machine.clone())
            .collect();
        if !left.is_empty() {
            switch(&left, Action::On, ours);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::bmc::Method;
    use std::fs;
    use std::path::Path;

    fn machine(last: u8, folder: &Path, power: &str) -> (Mac, Target) {
        let mac = Mac([2, 0, 0, 0, 0, last]);
        let file = folder.join(last.to_string());
        fs::write(&file, power).unwrap();
        let command = format!(
            "echo $KA_ACTION >>{0}.calls; case $KA_ACTION in status) cat {0};; network-once) ;; cycle) echo on >{0};; *) echo $KA_ACTION >{0};; esac",
            file.display()
        );
        (
            mac,
            Target {
                label: format!("n{last}"),
                mac: Some(mac),
                uefi: false,
                method: Ok(Method::Command(command)),
            },
        )
    }

    fn calls(folder: &Path, last: u8) -> Vec<String> {
        let text = fs::read_to_string(folder.join(format!("{last}.calls"))).unwrap_or_default();
        text.lines().filter(|call| *call != "status").map(str::to_owned).collect()
    }

    #[test]
    fn machines_are_woken_and_those_that_work_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let targets = vec![machine(1, at, "off"), machine(2, at, "on"), machine(3, at, "off")];
        let wake = Wake { action: Action::On, targets, retry: Duration::from_secs(600) };
        let (seen, mut ours) = (Mutex::new(BTreeSet::new()), BTreeSet::new());
        wake_missing(&wake, &seen, &mut ours, false);
        assert_eq!([calls(at, 1), calls(at, 2)], [vec!["network-once", "on"], vec![]]);
        // The third has appeared. The first has not, and is restarted because it was switched on here.
        seen.lock().unwrap().insert(Mac([2, 0, 0, 0, 0, 3]));
        wake_missing(&wake, &seen, &mut ours, true);
        assert_eq!(calls(at, 1), ["network-once", "on", "network-once", "cycle"]);
        assert_eq!([calls(at, 2), calls(at, 3)], [vec![], vec!["network-once", "on"]]);
        let wake = Wake { action: Action::Cycle, ..wake };
        wake_missing(&wake, &seen, &mut BTreeSet::new(), false);
        assert_eq!([calls(at, 2), calls(at, 3)], [vec!["network-once", "cycle"], vec!["network-once", "on"]]);
    }

    #[test]
    fn machines_that_never_came_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let targets = vec![machine(1, folder.path(), "off"), machine(2, folder.path(), "off")];
        let wake = Wake { action: Action::On, targets, retry: Duration::from_secs(600) };
        let waking = Waking::start(&wake).unwrap();
        waking.appeared.lock().unwrap().insert(Mac([2, 0, 0, 0, 0, 1]));
        assert_eq!(waking.missing(), ["n2"]);
        // The first has gone again before the run began: the report does not have it.
        let mut status = RunStatus::new("lab", "lab", std::time::SystemTime::now());
        assert_eq!(waking.gone(&status), ["n1"]);
        status.nodes.push(crate::status::NodeStatus::vanished(Mac([2, 0, 0, 0, 0, 1])));
        assert!(waking.gone(&status).is_empty());
    }
}
