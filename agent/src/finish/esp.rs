//! The EFI system partition: nothing on it can be started before everything else is on the disk.
//!
//! A firmware starts `\EFI\BOOT\BOOTX64.EFI`, or a path below `\EFI` from its menu, on any FAT partition. So
//! while the system is copied and finished, another directory is mounted over `EFI`, which is empty on the
//! disk: no firmware looks for `\KA-HELD\BOOT\…`. When everything is written out, that directory is renamed
//! to `EFI`: one directory entry is the last write, as boot code is with a BIOS.
//!
//! Only `EFI` is held back, never the file system itself: a boot loader's tools determine a file's path on
//! its file system, and would record a path that does not exist later; and mounts below it must stay visible.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ka::boot::ESP_POINTS;
use ka::plan::FileSystemKind;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::disk::MadeFileSystem;
use crate::finish::error::Cause;
use ka_host::health::{Lost, Watched};
use ka_host::sys::block;

/// A name that no firmware, boot loader or person uses; FAT stores it unchanged.
pub(in crate::finish) const HELD: &str = "KA-HELD";

/// The directory that every firmware needs.
const EFI: &str = "EFI";

/// Where partitions are mounted for the release.
const RELEASE: &str = "/run/ka/esp";

/// The EFI system partition among the file systems, if any.
pub(in crate::finish) fn of(made: &[MadeFileSystem]) -> Option<&MadeFileSystem> {
    ESP_POINTS.iter().find_map(|point| {
        made.iter()
            .find(|fs| fs.plan.kind == FileSystemKind::Vfat && fs.plan.mount_point.as_deref() == Some(*point))
    })
}

/// FAT file systems with another directory mounted over `EFI`. The mounts are removed on drop.
#[derive(Debug, Default)]
pub struct HeldBack {
    covered: Vec<PathBuf>,
}

impl HeldBack {
    /// Holds back what will be written to the FAT file systems of `made`, which are mounted below `root`, and
    /// empty.
    ///
    /// # Errors
    /// A directory cannot be created or mounted.
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
        let efi = match efi_in(point)? {
            // On another file system, such as a FAT `/boot` above the system partition, `EFI` stays empty.
            Some(efi) if fs::metadata(&efi)?.dev() != fs::metadata(point)?.dev() => return Ok(()),
            Some(efi) => efi,
            None => {
                let efi = point.join(EFI);
                fs::create_dir(&efi)?;
                efi
            }
        };
        let inner = point.join(HELD);
        fs::create_dir(&inner)?;
        rustix::mount::mount_bind(&inner, &efi)?;
        self.covered.push(efi.clone());
        rustix::mount::mount_change(&efi, MountPropagationFlags::PRIVATE)?;
        Ok(())
    }

    /// Shows the file systems as they are on the disk. What is held back stays where no firmware looks.
    ///
    /// # Errors
    /// A file system is still in use.
    pub fn uncover(mut self) -> io::Result<()> {
        while let Some(point) = self.covered.last() {
            rustix::mount::unmount(point, UnmountFlags::empty())?;
            self.covered.pop();
        }
        Ok(())
    }
}

/// The `EFI` directory of the file system mounted at `top`, in its actual spelling: FAT is case-insensitive.
fn efi_in(top: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(top)? {
        let entry = entry?;
        if entry.file_name().eq_ignore_ascii_case(EFI) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
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

/// Makes what was held back on the FAT file systems of `made` visible to the firmware. They must not be
/// mounted. This is the last write to them, after everything else is on the disk. The result is read back
/// from the medium.
pub(in crate::finish) fn release(made: &[MadeFileSystem]) -> Result<(), Cause> {
    for fs in made.iter().filter(|fs| fs.plan.kind == FileSystemKind::Vfat && fs.plan.mount_point.is_some()) {
        let failed = |doing| move |e: io::Error| Cause::file(doing, &fs.device, e);
        // Opened beforehand: writes during unmounting are seen through this descriptor.
        let partition = File::open(&fs.device).map_err(failed("open"))?;
        let shown = mounted(&fs.device, MountFlags::empty(), show)?;
        partition.sync_all().map_err(failed("write everything out to"))?;
        block::forget(&partition).map_err(|errno| failed("read back")(errno.into()))?;
        mounted(&fs.device, MountFlags::RDONLY, |top| check(top, shown))?;
        log::info!("{}: the firmware finds its loader now", fs.device.display());
    }
    Ok(())
}

/// Mounts a file system for the duration of a function.
fn mounted<T>(
    device: &Path,
    flags: MountFlags,
    work: impl FnOnce(&Path) -> Result<T, Cause>,
) -> Result<T, Cause> {
    let at = Path::new(RELEASE);
    fs::create_dir_all(at).map_err(|e| Cause::file("make", at, e))?;
    // Mounted as during the copy; otherwise a name outside ASCII would differ.
    rustix::mount::mount(device, at, "vfat", flags, c"utf8=1,errors=remount-ro")
        .map_err(|e| Cause::file("mount", device, e.into()))?;
    let worked = work(at);
    let unmounted = rustix::mount::unmount(at, UnmountFlags::empty());
    let worked = worked?;
    unmounted.map_err(|e| Cause::file("unmount", device, e.into()))?;
    Ok(worked)
}

/// What a firmware sees on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Nothing was held back.
    AsItWas,
    /// No `EFI`.
    Nothing,
    /// An `EFI` with contents.
    Loader,
}

/// A firmware sees this, and nothing is held back.
fn check(top: &Path, shown: Shown) -> Result<(), Cause> {
    let list = |e| Cause::file("list", top, e);
    let efi = match efi_in(top).map_err(list)? {
        Some(efi) => fs::read_dir(efi).map_err(list)?.next().is_some(),
        None => false,
    };
    let is_held = top.join(HELD).exists();
    let is_it = match shown {
        Shown::AsItWas => true,
        Shown::Nothing => !efi && !is_held,
        Shown::Loader => efi && !is_held,
    };
    if is_it {
        return Ok(());
    }
    let lost =
        "the disk has lost what was written to it without an error: the firmware would not find its loader";
    Err(Cause::file("read back", top, io::Error::other(lost)))
}

/// Renames the held directory of `top` to `EFI`. Without such a directory, nothing was held back.
fn show(top: &Path) -> Result<Shown, Cause> {
    let held = top.join(HELD);
    let is_empty = match fs::read_dir(&held) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Shown::AsItWas),
        Err(e) => return Err(Cause::file("list", &held, e)),
    };
    let directory = File::open(top).map_err(|e| Cause::file("open", top, e))?;
    let lost = |e: Lost| Cause::file("write everything out to", top, io::Error::other(e));
    let watched = Watched::new(directory.into(), top).map_err(lost)?;
    let sync = || watched.sync().map_err(lost);
    sync()?;
    let efi = efi_in(top).map_err(|e| Cause::file("list", top, e))?;
    if is_empty {
        // The golden node has none, or it is empty.
        for path in efi.iter().chain([&held]) {
            fs::remove_dir(path).map_err(|e| Cause::file("remove", path, e))?;
        }
    } else {
        // Replaces the empty one.
        let efi = efi.unwrap_or_else(|| top.join(EFI));
        fs::rename(&held, &efi).map_err(|e| Cause::file("put in its place", &efi, e))?;
    }
    sync()?;
    Ok(if is_empty { Shown::Nothing } else { Shown::Loader })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::config::names::tests::fs as file_system;

    fn memory(point: &Path) {
        fs::create_dir_all(point).unwrap();
        rustix::mount::mount("esp", point, "tmpfs", MountFlags::empty(), c"").unwrap();
    }

    fn vfat(number: u32, point: &str) -> MadeFileSystem {
        file_system(number, "ABCD-1234", FileSystemKind::Vfat, Some(point), None)
    }

    fn seen(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A tmpfs in place of FAT, which not every kernel can mount. Needs root.
    #[test]
    fn what_is_written_stays_out_of_sight_until_the_end() {
        let root = tempfile::tempdir().unwrap();
        let point = root.path().join("boot/efi");
        memory(&point);

        let held = HeldBack::hold(root.path(), &[vfat(1, "/boot/efi")]).unwrap();
        fs::create_dir_all(point.join("EFI/BOOT")).unwrap();
        fs::write(point.join("EFI/BOOT/BOOTX64.EFI"), "loader").unwrap();
        fs::write(point.join("startup.nsh"), "script").unwrap();
        held.uncover().unwrap();

        assert_eq!(seen(&point), ["EFI", HELD, "startup.nsh"]);
        assert!(seen(&point.join("EFI")).is_empty(), "a firmware would find something");
        check(&point, Shown::Loader).unwrap_err();
        let shown = show(&point).unwrap();
        assert_eq!(shown, Shown::Loader);
        check(&point, shown).unwrap();
        check(&point, Shown::Nothing).unwrap_err();
        assert_eq!(seen(&point), ["EFI", "startup.nsh"]);
        assert_eq!(fs::read(point.join("EFI/BOOT/BOOTX64.EFI")).unwrap(), b"loader");
        show(&point).unwrap();
        assert_eq!(seen(&point), ["EFI", "startup.nsh"]);
        rustix::mount::unmount(&point, UnmountFlags::empty()).unwrap();
    }

    /// As on a system with its kernels on the system partition: GRUB's tools record a file's path on its file
    /// system.
    #[test]
    fn files_beside_it_are_where_they_will_be() {
        let root = tempfile::tempdir().unwrap();
        let boot = root.path().join("boot");
        memory(&boot);
        let held = HeldBack::hold(root.path(), &[vfat(1, "/boot")]).unwrap();
        fs::create_dir(boot.join("grub")).unwrap();
        fs::write(boot.join("grub/grub.cfg"), "menu").unwrap();
        // In mountinfo(5), the fourth field is the mount's root within its file system.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let of_boot = mounts.lines().filter_map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            (*fields.get(4)? == boot.to_str()?).then(|| fields.get(3).copied()).flatten()
        });
        assert_eq!(of_boot.collect::<Vec<_>>(), ["/"]);
        held.uncover().unwrap();
        assert_eq!(fs::read(boot.join("grub/grub.cfg")).unwrap(), b"menu");
        let shown = show(&boot).unwrap();
        assert_eq!(seen(&boot), ["grub"], "the golden node has no EFI there");
        check(&boot, shown).unwrap();
        rustix::mount::unmount(&boot, UnmountFlags::empty()).unwrap();
    }

    #[test]
    fn what_is_mounted_below_stays_in_sight() {
        let root = tempfile::tempdir().unwrap();
        let (boot, esp) = (root.path().join("boot"), root.path().join("boot/efi"));
        memory(&boot);
        memory(&esp);
        let held = HeldBack::hold(root.path(), &[vfat(1, "/boot"), vfat(2, "/boot/efi")]).unwrap();
        fs::create_dir(esp.join("EFI/BOOT")).unwrap();
        held.uncover().unwrap();
        assert_eq!(seen(&esp), ["EFI", HELD]);
        show(&esp).unwrap();
        assert_eq!(seen(&esp.join("EFI")), ["BOOT"]);
        rustix::mount::unmount(&esp, UnmountFlags::empty()).unwrap();
        show(&boot).unwrap();
        assert_eq!(seen(&boot), ["efi"], "the mount point");
        rustix::mount::unmount(&boot, UnmountFlags::empty()).unwrap();
    }

    #[test]
    fn the_system_partition_is_known_by_its_place() {
        let made = [vfat(1, "/boot"), vfat(2, "/media/stick"), vfat(3, "/boot/efi")];
        assert_eq!(of(&made).map(|fs| fs.on.partition()), Some(Some(3)));
        assert_eq!(of(&made[..2]).map(|fs| fs.on.partition()), Some(Some(1)));
        assert!(of(&made[1..2]).is_none());
    }
}
