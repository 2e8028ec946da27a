//! Signals that would end a process silently.

use std::io;

use nix::sys::signal::{SigHandler, Signal, signal};

/// Makes a write beyond the file size limit fail with EFBIG instead of killing the process (SIGXFSZ).
///
/// # Errors
/// The system's error.
pub fn keep_on_large_files() -> io::Result<()> {
    // SAFETY: ignoring a signal installs no handler that could run.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
    Ok(())
}
