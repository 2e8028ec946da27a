//! A process that leads its terminal's session, as a shell must to have job control.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};

/// The signals of the terminal's keys, and of its hangup. A shell that inherits them as ignored or blocked
/// could not be interrupted.
const OF_A_TERMINAL: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGHUP];

/// Makes the process that `command` starts the leader of a new session, with its standard input as the
/// controlling terminal, and restores the terminal's signals.
pub fn lead(command: &mut Command) {
    let become_leader = || {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        for each in OF_A_TERMINAL {
            // SAFETY: the default action installs no handler that could run.
            unsafe { signal(each, SigHandler::SigDfl) }?;
        }
        Ok::<_, io::Error>(SigSet::empty().thread_set_mask()?)
    };
    // SAFETY: between fork and exec only async-signal-safe functions may be called. The closure makes system
    // calls and converts error numbers; it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(become_leader);
    }
}
