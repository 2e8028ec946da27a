//! The console's process is started again whenever it ends: a machine must not be out of sight because of one
//! viewer.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::end;
use super::reaper::Spawner;

/// What passes before it is started again.
const PAUSE: Duration = Duration::from_secs(5);

/// Keeps a process of this binary with the argument `console`.
pub(super) fn console(spawner: &Spawner) {
    let spawner = spawner.clone();
    let keep = move || {
        while !end::has_begun() {
            let mut command = Command::new("/proc/self/exe");
            command.arg("console").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
            match spawner.spawn(&mut command) {
                Ok(pid) => wait_for_end(pid),
                Err(error) => log::warn!("the console cannot be started: {error}"),
            }
            thread::sleep(PAUSE);
        }
    };
    if let Err(error) = thread::Builder::new().name("keep".into()).spawn(keep) {
        log::warn!("this node has no console for the golden node: {error}");
    }
}

/// The reaper takes the status; here only the end counts. A process that has ended already has no descriptor.
fn wait_for_end(pid: Pid) {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    while let Err(rustix::io::Errno::INTR) = ended(&process) {}
}

fn ended(process: &OwnedFd) -> rustix::io::Result<usize> {
    poll(&mut [PollFd::new(process, PollFlags::IN)], None)
}
