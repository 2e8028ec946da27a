//! Notes: losses that are not failures and must still be reported, from anywhere in a node's work.
//!
//! A step deep in the finish cannot return a warning to its caller. It calls [`warn`]. The node's main thread
//! collects the notes with [`take`] and sends them to the controller, whose summary shows them.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use ka::notes::{NoteKind, Tally};

static NOTED: Mutex<Option<Tally>> = Mutex::new(None);

/// Logs a warning, and counts it for the summary.
pub fn warn(kind: NoteKind, what: impl Display) {
    let what = what.to_string();
    log::warn!("{what}");
    NOTED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().add(kind, &what);
}

/// Counts one of many notes that would be too many for the log.
pub fn count(kind: NoteKind, what: &str) {
    NOTED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().add(kind, what);
}

/// The notes since the last call.
#[must_use]
pub fn take() -> Tally {
    NOTED.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
}
