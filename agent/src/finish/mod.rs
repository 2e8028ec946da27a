//! From copied files to a machine that boots and is itself.
//!
//! Right after unpacking, the tree under the new root is the golden node's: it names the golden
//! node's file systems, carries its identity, and its boot loader is files that no firmware starts.
//! The finish mends that with the copied system's own tools, run in a chroot. The loader comes last,
//! so that a node that fails on the way has nothing to boot.

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

use std::path::{Path, PathBuf};

use ka::plan::{BootPlan, FileSystemPlan, Loader};

use crate::step::step;
pub use chroot::inside;
use chroot::{Chroot, DeviceLinks};
pub use error::{Cause, FinishError};
use names::Names;
use times::Times;

/// A file system or swap space that was made on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeFileSystem {
    /// What was asked for.
    pub plan: FileSystemPlan,
    /// The partition's device node.
    pub device: PathBuf,
    /// Its new UUID, as blkid prints it.
    pub uuid: String,
    /// Its partition's UUID, as blkid prints it.
    pub partuuid: String,
}

/// Makes the tree under `root` boot on this node, from `disk`.
///
/// All of `made` must be mounted below `root`, which is itself a mount point, and the tree must be
/// complete. `hardware_modules` are the drivers that this node's hardware needs to reach its root,
/// by the names that the kernel gives them. Needs root's rights.
///
/// On return everything is on the disk, and nothing but `made` is mounted below `root`.
///
/// # Errors
/// The first step that failed, with its reason. The tree is then of no use, and must not be booted.
pub fn finish(
    root: &Path,
    boot: &BootPlan,
    made: &[MadeFileSystem],
    disk: &Path,
    hardware_modules: &[String],
) -> Result<(), FinishError> {
    let names = Names::new(made);
    // The times come first: looking at them later would see what the finish itself has changed.
    let times = named("note the times", || Times::record(root))?;
    let links = named("name the devices", || DeviceLinks::make(made))?;
    let chroot = named("enter the copied system", || Chroot::mount(root))?;

    let outcome = inside(root, || {
        let top = Path::new("/");
        named("fstab", || fstab::write(top, &names))?;
        named("other names of file systems", || references::write(top, &names))?;
        named("identity", || identity::remove(top))?;
        named("initrd", || initrd::rebuild(top, &boot.initrd_modules, hardware_modules))?;
        match boot.loader {
            Loader::Grub => named("boot loader", || grub::install(top, disk, &names)),
            Loader::None => Ok(()),
        }
    })
    .map_err(|source| FinishError {
        step: "enter the copied system",
        cause: Cause::file("change the root to", root, source),
    });

    let left = named("leave the copied system", || chroot.undo());
    drop(links);
    outcome??;
    left?;
    named("keep the times", || times.restore())?;
    named("sync", || sync(root, made, disk))
}

fn named<T>(name: &'static str, work: impl FnOnce() -> Result<T, Cause>) -> Result<T, FinishError> {
    step(name, work).map_err(|cause| FinishError { step: name, cause })
}

/// Writes out the new file systems and the disk's first sectors, which belong to no file system.
fn sync(root: &Path, made: &[MadeFileSystem], disk: &Path) -> Result<(), Cause> {
    for point in made.iter().filter_map(|fs| fs.plan.mount_point.as_deref()) {
        let path = root.join(point.trim_start_matches('/'));
        let directory = std::fs::File::open(&path).map_err(|e| Cause::file("open", &path, e))?;
        rustix::fs::syncfs(&directory).map_err(|e| Cause::file("sync", &path, e.into()))?;
    }
    std::fs::File::open(disk).and_then(|device| device.sync_all()).map_err(|e| Cause::file("sync", disk, e))
}
