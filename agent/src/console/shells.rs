//! Where a viewer's commands run: in stage2 with its tools once the work is there, and in stage1 before that.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::finish::inside;

/// The shells to try, in this order.
const SHELLS: [&[&str]; 4] =
    [&["/bin/sh"], &["/bin/busybox", "sh"], &["/usr/bin/busybox", "sh"], &["/busybox", "sh"]];

/// The arguments that start a shell in this thread's root.
pub(crate) fn find() -> Option<(&'static str, &'static [&'static str])> {
    let shell =
        SHELLS.into_iter().find(|words| words.first().is_some_and(|path| Path::new(path).is_file()))?;
    shell.split_first().map(|(program, arguments)| (*program, arguments))
}

/// Whether a root has the kernel's file systems: then the work is in it.
fn is_ready(root: &Path) -> bool {
    root == Path::new("/") || root.join("proc/self").exists()
}

/// Starts a shell with `arguments` in the first of `roots` that has one; `prepare` sets up the rest.
pub(super) fn start(
    roots: &[PathBuf],
    arguments: &[&OsStr],
    prepare: impl Fn(&mut Command) -> io::Result<()> + Sync,
) -> Result<Child, String> {
    let mut reasons = Vec::new();
    for root in roots {
        if !is_ready(root) {
            continue;
        }
        let begin = || {
            let (program, words) = find().ok_or("it has no shell")?;
            let mut command = Command::new(program);
            command.args(words).args(arguments).env_clear();
            command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/").current_dir("/");
            prepare(&mut command).map_err(|e| e.to_string())?;
            command.spawn().map_err(|e| format!("{program}: {e}"))
        };
        let started = if root == Path::new("/") {
            begin()
        } else {
            inside(root, begin).map_err(|e| e.to_string()).and_then(|started| started)
        };
        match started {
            Ok(child) => return Ok(child),
            Err(reason) => reasons.push(format!("{}: {reason}", root.display())),
        }
    }
    Err(format!("no shell can be started: {}", reasons.join(", ")))
}
