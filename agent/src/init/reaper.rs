//! Reaps every process that ends. Only PID 1 can do this for orphans.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, wait, waitid};

/// Starts processes and reports how they ended.
pub(super) struct Reaper {
    spawner: Spawner,
    ended: Receiver<(Pid, ExitStatus)>,
}

/// The part of a [`Reaper`] that may be used from several threads.
#[derive(Clone)]
pub(super) struct Spawner {
    /// Held while a process is started: the standard library itself waits for a child that failed to execute
    /// its program, and must find it.
    starting: Arc<Mutex<()>>,
    thread: Thread,
}

impl Reaper {
    /// Reaps from now on.
    pub(super) fn start() -> Self {
        let (tell, ended) = channel();
        let starting = Arc::new(Mutex::new(()));
        let lock = Arc::clone(&starting);
        let thread = thread::spawn(move || reap(&lock, &tell)).thread().clone();
        Self { spawner: Spawner { starting, thread }, ended }
    }

    pub(super) fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// Runs `command` to its end.
    pub(super) fn run(&self, command: &mut Command) -> io::Result<ExitStatus> {
        let pid = self.spawner.spawn(command)?;
        self.wait_for(pid)
    }

    /// Waits for a process that was started here.
    pub(super) fn wait_for(&self, pid: Pid) -> io::Result<ExitStatus> {
        loop {
            match self.ended.recv() {
                Ok((ended, status)) if ended == pid => return Ok(status),
                Ok((orphan, _)) => log::debug!("reaped {orphan}"),
                Err(e) => return Err(io::Error::other(e)),
            }
        }
    }
}

impl Spawner {
    /// Starts `command`.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Pid> {
        let starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        // PID 1 blocks it to handle ctrl-alt-del; other processes want to be interrupted.
        let interrupt = SigSet::from(Signal::SIGINT);
        let blocked = SigSet::thread_get_mask()?;
        interrupt.thread_unblock()?;
        let child = command.spawn();
        blocked.thread_set_mask()?;
        drop(starting);
        self.thread.unpark();
        Pid::from_raw(child?.id().cast_signed()).ok_or_else(|| io::Error::other("a process without a number"))
    }
}

fn reap(starting: &Mutex<()>, tell: &Sender<(Pid, ExitStatus)>) {
    loop {
        match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(_) => {
                let _starting = starting.lock().unwrap_or_else(PoisonError::into_inner);
                while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                    // No one waits any more when the machine is going down.
                    let _ = tell.send((pid, ExitStatus::from_raw(status.as_raw())));
                }
            }
            Err(Errno::INTR) => {}
            // No children until one is started, or the kernel assigns us an orphan.
            Err(_) => thread::park_timeout(Duration::from_secs(1)),
        }
    }
}
