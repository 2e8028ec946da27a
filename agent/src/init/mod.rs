//! PID 1: mounts, reaps, supervises, and never dies.
//!
//! When PID 1 dies, the kernel panics and no one learns why. So the node's work runs in a child of the same
//! binary, and this process only waits for it: whatever happens to the work, there is a log, a countdown that
//! offers a shell, and a reboot. The console for the golden node is another child.

mod console;
mod end;
mod exit_action;
mod keep;
pub mod log;
mod mounts;
mod reaper;
mod shell;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use ::log::LevelFilter;

use console::Console;
use end::End;
pub use exit_action::ExitAction;
use reaper::Reaper;

/// How long a person has to ask for a shell before the machine reboots.
const COUNTDOWN: Duration = Duration::from_secs(30);

/// Runs as PID 1: prepares the machine, runs this binary again with the argument `work`, and ends the machine
/// as the [`ExitAction`] says. A failure here is logged, and also ends in a reboot.
pub fn run(level: LevelFilter, work: &[&str]) -> ! {
    let troubles = mounts::mount_all();
    end::watch_ctrl_alt_del();
    let logging = log::start(level);
    end::survive_panics();
    ::log::info!("ka-agent {} is PID 1", env!("CARGO_PKG_VERSION"));
    for trouble in troubles.into_iter().chain(logging.err().map(|e| format!("cannot log: {e}"))) {
        ::log::error!("{trouble}");
    }
    let consoles = Console::active();
    let reaper = Reaper::start();
    keep::console(reaper.spawner());
    let end = supervise(&consoles, &reaper, work);
    end::end(end)
}

/// Runs the work, and acts on its outcome.
fn supervise(consoles: &[Console], reaper: &Reaper, work: &[&str]) -> End {
    let failure = match work_outcome(reaper, work) {
        Ok(ExitAction::Reboot) => return End::Reboot,
        Ok(ExitAction::PowerOff) => return End::PowerOff,
        Ok(ExitAction::Kexec) => return End::Kexec,
        Ok(ExitAction::Shell) => None,
        Err(_) if end::has_begun() => return End::Reboot,
        Err(reason) => Some(reason),
    };
    if let Some(reason) = &failure {
        ::log::error!("The node failed: {reason}. Its log is {}", log::FILE);
    }
    let limit = failure.is_some().then_some(COUNTDOWN);
    if let Some(console) = console::wait_for_key(consoles, limit) {
        match shell::run(reaper, console) {
            Ok(()) => ::log::info!("the shell has ended"),
            Err(reason) => {
                ::log::error!("no shell: {reason}");
                // So far only one line has shown the trouble: leave time to read it.
                console::wait_for_key(consoles, Some(COUNTDOWN));
            }
        }
    }
    End::Reboot
}

/// The outcome of the work, or why it failed.
fn work_outcome(reaper: &Reaper, work: &[&str]) -> Result<ExitAction, String> {
    let mut command = Command::new("/proc/self/exe");
    // The kernel gives PID 1 no search path. These directories hold all tools of stage2.
    command.args(work).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    let status = reaper.run(&mut command).map_err(|e| format!("its work cannot be started: {e}"))?;
    verdict(status)
}

fn verdict(status: ExitStatus) -> Result<ExitAction, String> {
    if let Some(number) = status.signal() {
        let name = nix::sys::signal::Signal::try_from(number).map_or("an unknown signal", |s| s.as_str());
        return Err(format!("its work was ended by {name} ({number})"));
    }
    let outcome = status.code().and_then(ExitAction::from_code);
    outcome.ok_or_else(|| format!("its work ended with {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_works_end_says_what_follows() {
        for (script, expected) in [
            ("exit 0", Ok(ExitAction::Reboot)),
            ("exit 10", Ok(ExitAction::PowerOff)),
            ("exit 11", Ok(ExitAction::Shell)),
            ("exit 12", Ok(ExitAction::Kexec)),
            ("exit 1", Err("its work ended with exit status: 1".to_owned())),
            ("kill -ABRT $$", Err("its work was ended by SIGABRT (6)".to_owned())),
            ("kill -40 $$", Err("its work was ended by an unknown signal (40)".to_owned())),
        ] {
            let status = Command::new("sh").args(["-c", script]).status().unwrap();
            assert_eq!(verdict(status), expected, "{script}");
        }
    }
}
