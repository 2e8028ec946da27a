//! Named steps: what a person sees of a node's work, with its outcome.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

type Watcher = Box<dyn Fn(&str) + Send>;

/// Is told each step that begins.
static WATCHER: Mutex<Option<Watcher>> = Mutex::new(None);

/// Is told each step for as long as the process lives.
static KEEPER: Mutex<Option<Watcher>> = Mutex::new(None);

/// From now on `keeper` gets the name of each step that begins, whatever else watches.
pub fn keep(keeper: impl Fn(&str) + Send + 'static) {
    *KEEPER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(keeper));
}

/// From now on `watcher` is told the name of each step that begins, in place of whoever was before.
pub fn watch(watcher: impl Fn(&str) + Send + 'static) {
    *WATCHER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(watcher));
}

/// Tells what the step of now goes on with, such as another of several tools: a step that says nothing new for too
/// long counts as failed.
pub fn goes_on(what: &str) {
    for told in [&KEEPER, &WATCHER] {
        if let Some(watcher) = told.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            watcher(what);
        }
    }
}

/// Runs one named step and logs its outcome, with the time that it took or the reason why it failed.
///
/// # Errors
/// Returns what `work` returned.
pub fn step<T, E: Display>(name: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let start = Instant::now();
    log::info!("{name} ...");
    goes_on(name);
    let outcome = work();
    match &outcome {
        Ok(_) => log::info!("{name}: OK ({:.1} s)", start.elapsed().as_secs_f64()),
        Err(e) => log::error!("{name}: Failed: {e}"),
    }
    outcome
}
