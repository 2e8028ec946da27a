//! Signals that would end a process without a word.

use std::io;

use nix::sys::signal::{SigHandler, Signal, signal};

/// A file that becomes too large is an error of the write (EFBIG), and not the death of the process (SIGXFSZ).
///
/// # Errors
/// The system's.
pub fn keep_on_large_files() -> io::Result<()> {
    // SAFETY: to ignore a signal installs no handler that could run.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
    Ok(())
}
