//! Mounts the kernel's file systems, which everything else needs.

use std::ffi::CStr;
use std::fs;

use rustix::io::Errno;
use rustix::mount::MountFlags;

/// Mounts them all, and makes the console this process's input and output.
///
/// Returns the errors, since there is no log yet.
pub(super) fn mount_all() -> Vec<String> {
    let safe = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mut troubles = Vec::new();
    for (kind, point, flags, options) in [
        ("proc", "/proc", safe, c""),
        ("sysfs", "/sys", safe, c""),
        ("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=755"),
        ("devpts", "/dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC, c"mode=620,ptmxmode=666"),
        ("tmpfs", "/run", MountFlags::NOSUID | MountFlags::NODEV, c"mode=755"),
    ] {
        troubles.extend(mount(kind, point, flags, options).err());
    }
    troubles.extend(use_console().err().map(|e| format!("cannot use /dev/console: {e}")));
    troubles
}

fn mount(kind: &str, point: &str, flags: MountFlags, options: &CStr) -> Result<(), String> {
    fs::create_dir_all(point).map_err(|e| format!("cannot make {point}: {e}"))?;
    match rustix::mount::mount(kind, point, kind, flags, options) {
        // It is mounted already.
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(e) => Err(format!("cannot mount {kind} on {point}: {e}")),
    }
}

fn use_console() -> std::io::Result<()> {
    let console = fs::File::options().read(true).write(true).open("/dev/console")?;
    rustix::stdio::dup2_stdin(&console)?;
    rustix::stdio::dup2_stdout(&console)?;
    rustix::stdio::dup2_stderr(&console)?;
    Ok(())
}
