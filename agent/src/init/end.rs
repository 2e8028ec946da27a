//! How the machine ends, in whatever state it is.

use std::convert::Infallible;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::sys::reboot::set_cad_enabled;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use rustix::system::{RebootCommand, reboot};

use super::COUNTDOWN;

/// What becomes of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Reboot,
    PowerOff,
    /// The kernel that is loaded starts; the machine reboots if there is none.
    Kexec,
}

/// How long a disk may take to write out what it still has to. One that hangs must not keep the node
/// from its reboot.
const SYNC_LIMIT: Duration = Duration::from_secs(60);

/// Whether the machine is ending: what dies from now on has not failed.
static BEGUN: AtomicBool = AtomicBool::new(false);

pub(super) fn has_begun() -> bool {
    BEGUN.load(Ordering::Relaxed)
}

/// Ends every process, writes everything out, and the machine is gone.
pub(super) fn end(end: End) -> ! {
    BEGUN.store(true, Ordering::Relaxed);
    let (saying, mut command) = match end {
        End::Reboot => ("Rebooting", RebootCommand::Restart),
        End::PowerOff => ("Powering off", RebootCommand::PowerOff),
        End::Kexec => ("Starting the installed system's kernel", RebootCommand::Kexec),
    };
    log::info!("{saying}");
    if let Err(e) = kill(Pid::from_raw(-1), Signal::SIGKILL)
        && e != nix::errno::Errno::ESRCH
    {
        log::warn!("cannot end the remaining processes: {e}");
    }
    sync();
    loop {
        if let Err(e) = reboot(command) {
            if command == RebootCommand::Kexec {
                log::error!("the installed system's kernel cannot be started: {e}; rebooting");
                command = RebootCommand::Restart;
                continue;
            }
            log::error!("the kernel refuses to end the machine: {e}; switch it off");
        }
        thread::sleep(COUNTDOWN);
    }
}

fn sync() {
    let (tell, done) = channel::<Infallible>();
    let started = thread::Builder::new().spawn(move || {
        rustix::fs::sync();
        drop(tell);
    });
    if let Err(e) = started {
        log::error!("cannot start a thread to sync in: {e}");
    } else if done.recv_timeout(SYNC_LIMIT) == Err(RecvTimeoutError::Timeout) {
        log::error!("not everything could be written out in {} s", SYNC_LIMIT.as_secs());
    }
}

/// Lets a panic of this process, for which there is no other net, end in a reboot as everything else.
/// Should even that fail, the kernel's own panic reboots as well.
pub(super) fn survive_panics() {
    std::panic::set_hook(Box::new(|panic| {
        log::error!("PID 1 failed: {panic}\nReboot in {} s", COUNTDOWN.as_secs());
        thread::sleep(COUNTDOWN);
        end(End::Reboot)
    }));
    if let Err(e) = fs::write("/proc/sys/kernel/panic", COUNTDOWN.as_secs().to_string()) {
        log::warn!("a panic of the kernel will not reboot: {e}");
    }
}

/// Makes ctrl-alt-del reboot with everything written out, where the kernel would reboot at once. To be
/// called while there is one thread only, whose signal mask the later ones inherit.
pub(super) fn watch_ctrl_alt_del() {
    let interrupt = SigSet::from(Signal::SIGINT);
    let watching = interrupt.thread_block().and_then(|()| set_cad_enabled(false));
    thread::spawn(move || {
        if let Err(e) = watching {
            log::warn!("ctrl-alt-del reboots at once: {e}");
        } else if interrupt.wait().is_ok() {
            log::warn!("ctrl-alt-del was pressed");
            end(End::Reboot)
        }
    });
}
