//! Named steps: what a person sees of a node's work, with its outcome.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ka::step::{Doing, Step};

type Watcher = Box<dyn Fn(&Doing) + Send>;

/// Receives what the node does.
static WATCHER: Mutex<Option<Watcher>> = Mutex::new(None);

/// The step that began last.
static CURRENT: Mutex<Step> = Mutex::new(Step::Begin);

/// Receives the same for as long as the process lives.
static KEEPER: Mutex<Option<Watcher>> = Mutex::new(None);

/// From now on `keeper` receives each step that begins, whatever else watches.
pub fn keep(keeper: impl Fn(&Doing) + Send + 'static) {
    *KEEPER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(keeper));
}

/// From now on `watcher` receives each step that begins, in place of the former one.
pub fn watch(watcher: impl Fn(&Doing) + Send + 'static) {
    *WATCHER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(watcher));
}

/// Reports with what the current step goes on, such as another of several tools: a step that reports nothing new for
/// too long counts as failed.
pub fn goes_on(what: impl Display) {
    let step = *CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    report(&step.of(what));
}

fn report(doing: &Doing) {
    for told in [&KEEPER, &WATCHER] {
        if let Some(watcher) = told.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            watcher(doing);
        }
    }
}

/// Runs one named step and logs its outcome, with the time that it took or the reason why it failed.
///
/// # Errors
/// Returns what `work` returned.
pub fn step<T, E: Display>(doing: impl Into<Doing>, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let (start, doing) = (Instant::now(), doing.into());
    log::info!("{doing} ...");
    *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = doing.step;
    report(&doing);
    let outcome = work();
    match &outcome {
        Ok(_) => log::info!("{doing}: OK ({:.1} s)", start.elapsed().as_secs_f64()),
        Err(e) => log::error!("{doing}: Failed: {e}"),
    }
    outcome
}
