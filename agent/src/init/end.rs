//! Ends the machine, in whatever state it is.

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

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Reboot,
    PowerOff,
    /// Boot the loaded kernel; reboot if there is none.
    Kexec,
}

/// How long a disk may take to write out pending data. One that hangs must not prevent the reboot.
const SYNC_LIMIT: Duration = Duration::from_secs(60);

/// Whether the machine is ending: processes that die from now on have not failed.
static BEGUN: AtomicBool = AtomicBool::new(false);

pub(super) fn has_begun() -> bool {
    BEGUN.load(Ordering::Relaxed)
}

/// Ends every process, writes everything out, and ends the machine.
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
        log::error!("cannot start the thread that syncs: {e}");
    } else if done.recv_timeout(SYNC_LIMIT) == Err(RecvTimeoutError::Timeout) {
        log::error!("not everything could be written out in {} s", SYNC_LIMIT.as_secs());
    }
}

/// Makes a panic of this process, which has no other safety net, end in a reboot. If even that fails, the
/// kernel's own panic reboots.
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

/// Makes ctrl-alt-del reboot after everything has been written out, where the kernel would reboot at once.
/// Must be called while there is only one thread, whose signal mask the later ones inherit.
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
