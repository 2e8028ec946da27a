//! Child processes that never outlive the process that started them.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::SigSet;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// Makes the kernel end the child that `command` starts as soon as its parent dies, even by SIGKILL (see
/// prctl(2), PR_SET_PDEATHSIG). Two limits: the parent is the *thread* that spawns, so it must be
/// one that lives as long as the process; and a child that changes its user loses the setting.
///
/// The child starts with no signal blocked, so that it hears SIGTERM even if its parent takes signals
/// from a file descriptor.
pub fn end_with_parent(command: &mut Command) -> &mut Command {
    let parent = getpid();
    let arm = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the setting was made: then nobody would send the signal.
        if getppid() != Some(parent) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(SigSet::empty().thread_set_mask()?)
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed. The closure makes three plain
    // system calls and compares integers; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(arm) }
}
