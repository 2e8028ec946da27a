//! From copied files to a machine that boots and is itself.
//!
//! Right after unpacking, the tree under the new root is the golden node's: it names the golden
//! node's file systems, carries its identity, and its boot loader is files that no firmware starts.
//! The finish mends that with the copied system's own tools, run in a chroot. What the firmware
//! starts is not written here but handed back, so that a node that fails, or loses its power, on the way
//! has nothing to boot.

mod chroot;
mod error;
mod fstab;
mod grub;
mod identity;
mod initrd;
mod names;
mod references;
mod replace;
mod times;
mod tool;

use std::path::Path;

use ka::plan::{BootPlan, Loader};

use crate::disk::{BootCode, MadeFileSystem};
use crate::step::step;
pub use chroot::inside;
use chroot::{Chroot, DeviceLinks};
pub use error::{Cause, FinishError};
use names::Names;
use times::Times;

/// Makes the tree under `root` boot on this node, from `disk`.
///
/// All of `made` must be mounted below `root`, which is itself a mount point, and the tree must be
/// complete. `hardware_modules` are the drivers that this node's hardware needs to reach its root,
/// by the names that the kernel gives them. Needs root's rights.
///
/// On return everything is on the disk but the boot loader's code for its first sector, which is returned
/// (nothing without a loader): written as the very last, it makes the disk bootable. Nothing but `made` is
/// mounted below `root`.
///
/// # Errors
/// The first step that failed, with its reason. The tree is then of no use, and must not be booted.
pub fn finish(
    root: &Path,
    boot: &BootPlan,
    made: &[MadeFileSystem],
    disk: &Path,
    hardware_modules: &[String],
) -> Result<Option<BootCode>, FinishError> {
    let names = Names::new(made);
    // The times come first: looking at them later would see what the finish itself has changed.
    let times = named("Note the times of the files", || Times::record(root))?;
    let links = named("Name the devices", || DeviceLinks::make(made))?;
    let chroot = named("Enter the copied system", || Chroot::mount(root))?;

    let outcome = inside(root, || {
        let top = Path::new("/");
        named("Rewrite fstab", || fstab::write(top, &names))?;
        named("Rewrite other names of file systems", || references::write(top, &names))?;
        named("Remove the golden node's identity", || identity::remove(top))?;
        named("Rebuild the initrd", || initrd::rebuild(top, &boot.initrd_modules, hardware_modules))?;
        match boot.loader {
            Loader::Grub => named("Install the boot loader", || grub::install(top, disk, &names)).map(Some),
            Loader::None => Ok(None),
        }
    })
    .map_err(|source| FinishError {
        step: "Enter the copied system",
        cause: Cause::file("change the root to", root, source),
    });

    let left = named("Leave the copied system", || chroot.undo());
    drop(links);
    let boot_code = outcome??;
    left?;
    named("Keep the times of unchanged files", || times.restore())?;
    named("Write everything out", || sync(root, made, disk))?;
    Ok(boot_code)
}

fn named<T>(name: &'static str, work: impl FnOnce() -> Result<T, Cause>) -> Result<T, FinishError> {
    step(name, work).map_err(|cause| FinishError { step: name, cause })
}

/// Writes out the new file systems and the disk's first sectors, which belong to no file system.
fn sync(root: &Path, made: &[MadeFileSystem], disk: &Path) -> Result<(), Cause> {
    for point in made.iter().filter_map(|fs| fs.plan.mount_point.as_deref()) {
        let path = root.join(point.trim_start_matches('/'));
        let directory = std::fs::File::open(&path).map_err(|e| Cause::file("open", &path, e))?;
        rustix::fs::syncfs(&directory).map_err(|e| Cause::file("Write everything out", &path, e.into()))?;
    }
    std::fs::File::open(disk)
        .and_then(|device| device.sync_all())
        .map_err(|e| Cause::file("Write everything out", disk, e))
}
