//! The EFI system partition: nothing on it can be started before everything else is on the disk.
//!
//! A firmware starts `\EFI\BOOT\BOOTX64.EFI`, or a path that its menu names, from any FAT partition. So
//! while the system is copied and finished, a directory with another name stands where the partition is
//! mounted: `\KA-HELD\EFI\…` is nothing that a firmware looks for. Everybody who works in the copied system,
//! the boot loader's tools too, sees the partition as it will be. When all is written out, what is in the
//! directory moves up, `EFI` as the last: one entry of a directory is the last write, as boot code is with a
//! BIOS.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ka::plan::FileSystemKind;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::error::Cause;
use crate::disk::MadeFileSystem;

/// No name that a firmware, a boot loader or a person gives; FAT keeps it as it is.
const HELD: &str = "KA-HELD";

/// What is moved last: without it, nothing is found.
const LAST: &str = "EFI";

/// Where partitions are mounted to be released.
const RELEASE: &str = "/run/ka/esp";

/// The mount points that a firmware's loaders are kept at, the likeliest first.
pub(super) const POINTS: [&str; 3] = ["/boot/efi", "/efi", "/boot"];

/// The EFI system partition among the file systems, if there is one.
pub(super) fn of(made: &[MadeFileSystem]) -> Option<&MadeFileSystem> {
    POINTS.iter().find_map(|point| {
        made.iter()
            .find(|fs| fs.plan.kind == FileSystemKind::Vfat && fs.plan.mount_point.as_deref() == Some(*point))
    })
}

/// FAT file systems of which only an inner directory is seen. Shown whole again when dropped.
#[derive(Debug, Default)]
pub struct HeldBack {
    covered: Vec<PathBuf>,
}

impl HeldBack {
    /// Holds back what will be written to the FAT file systems of `made`, which are mounted below `root`, and
    /// empty.
    ///
    /// # Errors
    /// A directory cannot be made or mounted.
    pub fn hold(root: &Path, made: &[MadeFileSystem]) -> io::Result<Self> {
        let mut held = Self::default();
        for fs in made.iter().filter(|fs| fs.plan.kind == FileSystemKind::Vfat) {
            if let Some(point) = &fs.plan.mount_point {
                held.cover(&root.join(point.trim_start_matches('/')))?;
            }
        }
        Ok(held)
    }

    fn cover(&mut self, point: &Path) -> io::Result<()> {
        let inner = point.join(HELD);
        fs::create_dir(&inner)?;
        rustix::mount::mount_bind(&inner, point)?;
        self.covered.push(point.to_owned());
        rustix::mount::mount_change(point, MountPropagationFlags::PRIVATE)?;
        Ok(())
    }

    /// Shows the file systems whole, with what is held back still where no firmware looks.
    ///
    /// # Errors
    /// Something still uses a file system.
    pub fn uncover(mut self) -> io::Result<()> {
        while let Some(point) = self.covered.last() {
            rustix::mount::unmount(point, UnmountFlags::empty())?;
            self.covered.pop();
        }
        Ok(())
    }
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        for point in self.covered.iter().rev() {
            if let Err(e) = rustix::mount::unmount(point, UnmountFlags::DETACH) {
                log::error!("cannot unmount {}: {e}", point.display());
            }
        }
    }
}

/// Lets the firmware find what was held back on the FAT file systems of `made`, which are not mounted. This is
/// the last write to them; everything else must be on the disk.
pub(super) fn release(made: &[MadeFileSystem]) -> Result<(), Cause> {
    for fs in made.iter().filter(|fs| fs.plan.kind == FileSystemKind::Vfat && fs.plan.mount_point.is_some()) {
        let at = Path::new(RELEASE);
        fs::create_dir_all(at).map_err(|e| Cause::file("make", at, e))?;
        // As it was mounted while the files came: else a name that is not ASCII is another one now.
        rustix::mount::mount(&fs.device, at, "vfat", MountFlags::empty(), c"utf8=1")
            .map_err(|e| Cause::file("mount", &fs.device, e.into()))?;
        let moved = move_up(at);
        let unmounted = rustix::mount::unmount(at, UnmountFlags::empty())
            .map_err(|e| Cause::file("unmount", &fs.device, e.into()));
        moved?;
        unmounted?;
        log::info!("{}: the firmware finds its loader now", fs.device.display());
    }
    Ok(())
}

/// Moves what is in the held directory of `top` to `top`. Without such a directory, nothing was held back.
fn move_up(top: &Path) -> Result<(), Cause> {
    let held = top.join(HELD);
    let entries = match fs::read_dir(&held).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Cause::file("list", &held, e)),
    };
    let mut names: Vec<_> = entries.into_iter().map(|entry| entry.file_name()).collect();
    // FAT knows no case.
    let is_last = |name: &std::ffi::OsString| name.eq_ignore_ascii_case(LAST);
    names.sort_by_key(|name| (is_last(name), name.clone()));
    let sync = || {
        let directory = File::open(top).map_err(|e| Cause::file("open", top, e))?;
        rustix::fs::syncfs(&directory).map_err(|e| Cause::file("write everything out to", top, e.into()))
    };
    for name in names {
        if is_last(&name) {
            sync()?;
        }
        let to = top.join(&name);
        fs::rename(held.join(&name), &to).map_err(|e| Cause::file("move up to", &to, e))?;
    }
    sync()?;
    fs::remove_dir(&held).map_err(|e| Cause::file("remove", &held, e))?;
    sync()
}

#[cfg(test)]
mod tests {
    use super::super::names::tests::fs as file_system;
    use super::*;

    /// A memory file system in place of FAT, which not every kernel can mount. Needs root.
    #[test]
    fn what_is_written_stays_out_of_sight_until_it_is_moved_up() {
        let root = tempfile::tempdir().unwrap();
        let point = root.path().join("boot/efi");
        fs::create_dir_all(&point).unwrap();
        rustix::mount::mount("esp", &point, "tmpfs", MountFlags::empty(), c"").unwrap();
        let made = [file_system(1, "ABCD-1234", FileSystemKind::Vfat, Some("/boot/efi"), None)];

        let held = HeldBack::hold(root.path(), &made).unwrap();
        fs::create_dir_all(point.join("EFI/BOOT")).unwrap();
        fs::write(point.join("EFI/BOOT/BOOTX64.EFI"), "loader").unwrap();
        fs::write(point.join("startup.nsh"), "script").unwrap();
        held.uncover().unwrap();

        let seen = |directory: &Path| -> Vec<String> {
            let names = fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name());
            let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(seen(&point), [HELD], "a firmware would find something");
        move_up(&point).unwrap();
        assert_eq!(seen(&point), ["EFI", "startup.nsh"]);
        assert_eq!(fs::read(point.join("EFI/BOOT/BOOTX64.EFI")).unwrap(), b"loader");
        move_up(&point).unwrap();
        rustix::mount::unmount(&point, UnmountFlags::empty()).unwrap();
    }

    #[test]
    fn the_system_partition_is_known_by_its_place() {
        let vfat = |number, point| file_system(number, "ABCD-1234", FileSystemKind::Vfat, Some(point), None);
        let made = [vfat(1, "/boot"), vfat(2, "/media/stick"), vfat(3, "/boot/efi")];
        assert_eq!(of(&made).map(|fs| fs.plan.partition), Some(3));
        assert_eq!(of(&made[..2]).map(|fs| fs.plan.partition), Some(1));
        assert!(of(&made[1..2]).is_none());
    }
}
