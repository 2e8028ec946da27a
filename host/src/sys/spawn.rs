//! Child processes that never outlive their parent.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::SigSet;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// Makes the kernel kill the child that `command` starts as soon as its parent dies, even by SIGKILL
/// (prctl(2), PR_SET_PDEATHSIG). Two limits: the parent is the *thread* that spawns, so it must live as long
/// as the process; and a child that changes its user loses the setting.
///
/// The child starts with no signal blocked, so that it receives SIGTERM even if its parent reads signals from
/// a file descriptor.
pub fn end_with_parent(command: &mut Command) -> &mut Command {
    let parent = getpid();
    let arm = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the setting took effect: then no signal would be sent.
        if getppid() != Some(parent) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(SigSet::empty().thread_set_mask()?)
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed. The closure makes three plain
    // system calls and compares integers; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(arm) }
}
