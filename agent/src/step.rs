//! Named steps: a node's work as a person sees it, with each outcome.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ka::step::{Doing, Step};

type Watcher = Box<dyn Fn(&Doing) + Send>;

/// The receivers of steps.
static WATCHER: Mutex<Option<Watcher>> = Mutex::new(None);

/// The receiver that lasts as long as the process.
static KEEPER: Mutex<Option<Watcher>> = Mutex::new(None);

/// The step that started last.
static CURRENT: Mutex<Step> = Mutex::new(Step::Begin);

/// Makes `keeper` receive each step that starts, in addition to the watcher.
pub fn keep(keeper: impl Fn(&Doing) + Send + 'static) {
    *KEEPER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(keeper));
}

/// Makes `watcher` receive each step that starts, in place of the previous watcher.
pub fn watch(watcher: impl Fn(&Doing) + Send + 'static) {
    *WATCHER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(watcher));
}

/// Reports what the current step continues with, such as the next of several tools: a step that reports
/// nothing new for too long counts as failed.
pub fn goes_on(what: impl Display) {
    let step = *CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    report(&step.of(what));
}

fn report(doing: &Doing) {
    for receiver in [&KEEPER, &WATCHER] {
        if let Some(receive) = receiver.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            receive(doing);
        }
    }
}

/// Runs one named step and logs its outcome, with its duration or the reason for its failure.
///
/// # Errors
/// The result of `work`.
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
