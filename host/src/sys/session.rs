//! A process that leads its own session with a controlling terminal, as a shell needs for job control.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the process that `command` starts the leader of a new session, with its standard input as the controlling
/// terminal.
pub fn lead(command: &mut Command) {
    let become_leader = || {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe functions may be called. The closure makes two
    // system calls and converts an error number; it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(become_leader);
    }
}
