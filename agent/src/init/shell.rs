//! A shell for the person who has to investigate.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::mount_bind_recursive;

use super::console::Console;
use super::reaper::Reaper;
use crate::console::shells;
use crate::finish::inside;

/// Where the tools are after stage2 has arrived.
const STAGE2: &str = "/stage2";

/// Runs a shell on `console` until it ends, inside stage2 if that has one.
pub(super) fn run(reaper: &Reaper, console: &Console) -> Result<(), String> {
    let mut reasons = Vec::new();
    for root in [STAGE2, "/"].map(Path::new) {
        match run_below(root, reaper, console) {
            Ok(()) => return Ok(()),
            Err(reason) => reasons.push(format!("{}: {reason}", root.display())),
        }
    }
    Err(reasons.join(", "))
}

fn run_below(root: &Path, reaper: &Reaper, console: &Console) -> Result<(), String> {
    if !root.is_dir() {
        return Err("not there".to_owned());
    }
    if root != Path::new("/") {
        share(root);
    }
    // By its path out here: a root that could not be shared has no such device.
    let terminal = console.blocking().map_err(|e| format!("{}: {e}", console.path().display()))?;
    let spawner = reaper.spawner();
    let spawned = inside(root, || {
        let (program, arguments) = shells::find().ok_or("it has no shell")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/")
            .env("TERM", if console.path().starts_with("/dev/tty0") { "linux" } else { "vt102" })
            .env("PS1", "ka# ");
        let shared = || terminal.try_clone().map(Stdio::from).map_err(|e| e.to_string());
        command.stdin(shared()?).stdout(shared()?).stderr(shared()?);
        ka_host::sys::session::lead(&mut command);
        console.write("The machine reboots when this shell ends.\n");
        spawner.spawn(&mut command).map_err(|e| format!("{program}: {e}"))
    });
    let pid = spawned.map_err(|e| e.to_string())??;
    reaper.wait_for(pid).map(drop).map_err(|e| e.to_string())
}

/// Binds the machine's file systems below `root`. They stay, since a reboot follows.
fn share(root: &Path) {
    for name in ["dev", "proc", "sys", "run", "mnt"] {
        let (from, to) = (Path::new("/").join(name), root.join(name));
        if !from.is_dir() || is_empty(&to) == Some(false) {
            continue;
        }
        let shared = fs::create_dir_all(&to).and_then(|()| Ok(mount_bind_recursive(&from, &to)?));
        if let Err(e) = shared {
            log::warn!("{} is missing in the shell: {e}", to.display());
        }
    }
}

fn is_empty(directory: &Path) -> Option<bool> {
    Some(fs::read_dir(directory).ok()?.next().is_none())
}
