//! Switches many machines in parallel.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::target::Target;
use super::{Action, PowerError, State, act};

/// The maximum number of machines at the same time: each may be a program that waits for its BMC.
const AT_ONCE: usize = 32;

/// Carries out an action on all machines; `tell` is called for each machine when it is done.
pub fn act_on_all(
    targets: &[Target],
    action: Action,
    network: bool,
    tell: impl Fn(&Target, &Result<State, PowerError>) + Sync,
) -> Vec<Result<State, PowerError>> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(target) = targets.get(at) else { return };
            let outcome = act(target, action, network);
            let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            // Inside the lock, so that lines do not mix.
            tell(target, &outcome);
            outcomes.push((at, outcome));
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(targets.len()) {
            scope.spawn(work);
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|(at, _)| *at);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}
