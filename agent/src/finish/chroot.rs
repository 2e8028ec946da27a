//! The copied system as a chroot in which its own tools run.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::CloneFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::disk::MadeFileSystem;
use crate::finish::boot::efi;
use crate::finish::error::Cause;

/// The file that replaces `/proc/cmdline` in the copied system.
const COMMAND_LINE: &str = "run/ka-command-line";

/// Runs `work` with `root` as its root directory, including the programs that it starts; the rest of the
/// process stays outside.
///
/// So an absolute symbolic link in the copied system leads to its own files, never to this system's.
///
/// # Errors
/// The root cannot be changed, which needs root's rights.
pub fn inside<T: Send>(root: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // This thread gets its own root and working directory, which end with it.
            nix::sched::unshare(CloneFlags::CLONE_FS)?;
            nix::unistd::chroot(root)?;
            nix::unistd::chdir("/")?;
            Ok(work())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The kernel's file systems, mounted below a root. They are unmounted on drop; [`Chroot::undo`] also reports
/// whether that worked.
pub(in crate::finish) struct Chroot {
    root: PathBuf,
    mounted: Vec<PathBuf>,
}

impl Chroot {
    pub(in crate::finish) fn mount(root: &Path) -> Result<Self, Cause> {
        let mut chroot = Self { root: root.to_owned(), mounted: Vec::new() };
        chroot.at("dev", |to| rustix::mount::mount_bind("/dev", to))?;
        chroot.at("dev/pts", |to| new("devpts", to, c"gid=5,mode=620,ptmxmode=000"))?;
        chroot.at("proc", |to| new("proc", to, c""))?;
        chroot.at("sys", |to| new("sysfs", to, c""))?;
        // Missing on a machine with a BIOS, or if the kernel lacks the file system.
        if root.join(efi::MOUNT_POINT).is_dir()
            && let Err(e) = chroot.at(efi::MOUNT_POINT, |to| new("efivarfs", to, c""))
        {
            warning!("{e}: the firmware's menu cannot be seen");
        }
        chroot.at("run", |to| new("tmpfs", to, c"mode=755"))?;
        // Tools keep their locks in /var/lock, which is a link to this.
        chroot.directory("run/lock")?;
        if Path::new("/run/udev").is_dir() {
            chroot.directory("run/udev")?;
            chroot.at("run/udev", |to| rustix::mount::mount_bind("/run/udev", to))?;
        }
        // Both file systems are new, so neither path can lead outside.
        let line = root.join(COMMAND_LINE);
        fs::write(&line, "").map_err(|e| Cause::file("make", &line, e))?;
        chroot.mount_at(root.join("proc/cmdline"), |to| rustix::mount::mount_bind(&line, to))?;
        Ok(chroot)
    }

    fn at(&mut self, name: &str, mount: impl FnOnce(&Path) -> rustix::io::Result<()>) -> Result<(), Cause> {
        let path = self.directory(name)?;
        self.mount_at(path, mount)
    }

    fn mount_at(
        &mut self,
        path: PathBuf,
        mount: impl FnOnce(&Path) -> rustix::io::Result<()>,
    ) -> Result<(), Cause> {
        mount(&path).map_err(|e| Cause::file("mount", &path, e.into()))?;
        self.mounted.push(path.clone());
        // Otherwise mounts below a bind of a shared /dev would appear on the host as well.
        rustix::mount::mount_change(&path, MountPropagationFlags::PRIVATE)
            .map_err(|e| Cause::file("make private", &path, e.into()))
    }

    /// The directory `name` of the root, created if it is missing. A link is refused, since it could lead
    /// outside.
    fn directory(&self, name: &str) -> Result<PathBuf, Cause> {
        let path = self.root.join(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => Ok(path),
            Ok(_) => Err(Cause::file("mount", &path, io::ErrorKind::NotADirectory.into())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&path).map_err(|e| Cause::file("make", &path, e))?;
                Ok(path)
            }
            Err(e) => Err(Cause::file("look at", &path, e)),
        }
    }

    /// Unmounts everything again.
    pub(in crate::finish) fn undo(mut self) -> Result<(), Cause> {
        while let Some(path) = self.mounted.last() {
            rustix::mount::unmount(path, UnmountFlags::empty()).map_err(|e| Cause::Busy {
                path: path.clone(),
                error: e.into(),
                users: users_of(&self.root),
            })?;
            self.mounted.pop();
        }
        Ok(())
    }
}

impl Drop for Chroot {
    fn drop(&mut self) {
        for path in self.mounted.iter().rev() {
            if let Err(e) = rustix::mount::unmount(path, UnmountFlags::DETACH) {
                log::error!("cannot unmount {}: {e}", path.display());
            }
        }
    }
}

/// Makes `line` the running kernel's command line as seen by the copied system below `root`, which is the
/// process's root.
///
/// kernel-install, mkinitcpio and others copy the running kernel's command line for future boots if they find
/// no other. Here that would be the one for cloning, which names no root.
pub(in crate::finish) fn show_command_line(root: &Path, line: &str) -> Result<(), Cause> {
    log::info!("in /proc/cmdline of the copied system: {line}");
    let path = root.join(COMMAND_LINE);
    fs::write(&path, format!("{line}\n")).map_err(|e| Cause::file("write", &path, e))
}

fn new(kind: &str, to: &Path, options: &std::ffi::CStr) -> rustix::io::Result<()> {
    rustix::mount::mount(kind, to, kind, MountFlags::NOSUID | MountFlags::NOEXEC, options)
}

/// The processes whose root is below `root`: leftovers of a distribution's hook, perhaps.
fn users_of(root: &Path) -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let lives_below =
        |process: &Path| fs::read_link(process.join("root")).is_ok_and(|at| at.starts_with(root));
    let describe = |process: PathBuf| {
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        format!("{} {}", process.file_name().unwrap_or_default().display(), name.trim())
    };
    processes.flatten().map(|entry| entry.path()).filter(|path| lives_below(path)).map(describe).collect()
}

/// Links in `/dev/disk` to the new file systems, where no udev creates them. Without them grub-mkconfig
/// silently falls back to `root=/dev/sda1`. They are removed on drop.
pub(in crate::finish) struct DeviceLinks {
    links: Vec<PathBuf>,
}

impl DeviceLinks {
    pub(in crate::finish) fn make(made: &[MadeFileSystem]) -> Result<Self, Cause> {
        let mut made_links = Self { links: Vec::new() };
        for fs in made {
            for (directory, name) in
                [("/dev/disk/by-uuid", &fs.uuid), ("/dev/disk/by-partuuid", &fs.partuuid)]
            {
                // A partition copied byte by byte may have no name.
                if !name.is_empty() {
                    made_links.link(&Path::new(directory).join(name), &fs.device)?;
                }
            }
        }
        Ok(made_links)
    }

    fn link(&mut self, link: &Path, device: &Path) -> Result<(), Cause> {
        if fs::canonicalize(link).is_ok_and(|leads_to| leads_to == device) {
            return Ok(());
        }
        let directory = link.parent().unwrap_or(link);
        fs::create_dir_all(directory).map_err(|e| Cause::file("make", directory, e))?;
        // A link that udev is about to create anyway, or one to a file system that no longer exists.
        if let Err(e) = fs::remove_file(link)
            && e.kind() != io::ErrorKind::NotFound
        {
            return Err(Cause::file("remove", link, e));
        }
        let relative: OsString = match device.strip_prefix("/dev") {
            Ok(below) => Path::new("../..").join(below).into(),
            Err(_) => device.into(),
        };
        std::os::unix::fs::symlink(relative, link).map_err(|e| Cause::file("make", link, e))?;
        self.links.push(link.to_owned());
        Ok(())
    }
}

impl Drop for DeviceLinks {
    fn drop(&mut self) {
        for link in &self.links {
            if let Err(e) = fs::remove_file(link) {
                warning!("cannot remove {}: {e}", link.display());
            }
        }
    }
}
