//! Named steps: what a person sees of a node's work, with its outcome.

use std::fmt::Display;
use std::time::Instant;

/// Runs one named step and logs its outcome, with the time that it took or the reason why it failed.
///
/// # Errors
/// Returns what `work` returned.
pub fn step<T, E: Display>(name: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let start = Instant::now();
    log::info!("{name} ...");
    let outcome = work();
    match &outcome {
        Ok(_) => log::info!("{name}: OK ({:.1} s)", start.elapsed().as_secs_f64()),
        Err(e) => log::error!("{name}: Failed: {e}"),
    }
    outcome
}
