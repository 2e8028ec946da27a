//! From copied files to a machine that boots and is itself.
//!
//! Right after unpacking, the tree under the new root is the golden node's: it names the golden
//! node's file systems, carries its identity, and its boot loader is files that no firmware starts.
//! The finish mends that with the copied system's own tools, run in a chroot. What the firmware
//! starts is not written here but handed back, so that a node that fails, or loses its power, on the way
//! has nothing to boot.

mod chroot;
mod efi;
mod error;
mod esp;
mod fstab;
mod glob;
mod identity;
mod initrd;
mod loader;
mod names;
mod references;
mod replace;
mod times;
mod tool;

use std::fs;
use std::path::Path;

use ka::inventory::Firmware;
use ka::plan::Plan;

use crate::disk::{BootCode, MadeFileSystem};
use crate::step::step;
pub use chroot::inside;
use chroot::{Chroot, DeviceLinks};
pub use error::{Cause, FinishError};
pub use esp::HeldBack;
use loader::Setting;
use names::Names;
use times::Times;

/// A copied system and the machine that it is to become.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'a> {
    /// Where the system's root is mounted; all of `made` is mounted below it, and the tree is complete.
    pub root: &'a Path,
    /// What the run asks for.
    pub plan: &'a Plan,
    /// The node's new file systems.
    pub made: &'a [MadeFileSystem],
    /// The disk that boots.
    pub disk: &'a Path,
    /// The machine.
    pub machine: &'a Machine,
}

/// What the finish must know of the node that it works on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// What starts it.
    pub firmware: Firmware,
    /// The drivers that it needs to reach its disks, by the names that the kernel gives them.
    pub storage_modules: Vec<String>,
}

/// The last writes, which let the node boot: to be done when everything else is written out and unmounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWrites {
    /// The code for the disk's first sector, if a BIOS is to start it.
    pub boot_code: Option<BootCode>,
    made: Vec<MadeFileSystem>,
}

impl LastWrites {
    /// Lets a UEFI firmware find the loader that [`HeldBack`] has hidden from it. Nothing must be mounted.
    ///
    /// # Errors
    /// The EFI system partition cannot be mounted or written. The node does not boot then.
    pub fn release(&self) -> Result<(), Cause> {
        esp::release(&self.made)
    }
}

/// Why a node with this firmware would not boot what the plan makes, if it would not. To be asked before
/// anything is written.
#[must_use]
pub fn refusal(plan: &Plan, firmware: Firmware) -> Option<String> {
    loader::refusal(plan, firmware)
}

/// Makes a copied system boot on this node, from its disk. Needs root's rights.
///
/// On return everything is on the disk but what a firmware starts: boot code is handed back, and what is on the EFI
/// system partition is where no firmware looks if it was held back. Nothing but `made` is mounted below the root.
///
/// # Errors
/// The first step that failed, with its reason. The tree is then of no use, and must not be booted.
pub fn finish(copied: &Copied<'_>) -> Result<LastWrites, FinishError> {
    let Copied { root, plan, made, disk, machine } = *copied;
    // The times come first: looking at them later would see what the finish itself has changed.
    let times = named("Note the times of the files", || Times::record(root))?;
    let links = named("Name the devices", || DeviceLinks::make(made))?;
    let chroot = named("Enter the copied system", || Chroot::mount(root))?;

    let outcome = inside(root, || {
        let top = Path::new("/");
        let names = named("Read the golden node's names", || names(top, made))?;
        named("Rewrite fstab", || fstab::write(top, &names))?;
        named("Rewrite other names of file systems", || references::write(top, &names))?;
        named("Remove the golden node's identity", || identity::remove(top))?;
        named("Rebuild the initrd", || {
            initrd::rebuild(top, &plan.boot.initrd_modules, &machine.storage_modules)
        })?;
        let (firmware, order) = (machine.firmware, plan.boot.order);
        let setting = Setting { root: top, disk, firmware, order, names: &names };
        named("Install the boot loader", || loader::install(&plan.boot, &setting))
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
    Ok(LastWrites { boot_code, made: made.to_vec() })
}

/// The names that the copied system has for its file systems.
fn names<'a>(root: &Path, made: &'a [MadeFileSystem]) -> Result<Names<'a>, Cause> {
    let path = root.join("etc/crypttab");
    let crypttab = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(Cause::file("read", &path, e)),
    };
    let names = Names::new(made);
    let mappings = references::mappings(&crypttab, &names);
    Ok(names.with_mappings(mappings))
}

fn named<T>(name: &'static str, work: impl FnOnce() -> Result<T, Cause>) -> Result<T, FinishError> {
    step(name, work).map_err(|cause| FinishError { step: name, cause })
}

/// Writes out the new file systems and the disk's first sectors, which belong to no file system.
fn sync(root: &Path, made: &[MadeFileSystem], disk: &Path) -> Result<(), Cause> {
    for point in made.iter().flat_map(MadeFileSystem::mount_points) {
        let path = root.join(point.trim_start_matches('/'));
        let directory = std::fs::File::open(&path).map_err(|e| Cause::file("open", &path, e))?;
        rustix::fs::syncfs(&directory).map_err(|e| Cause::file("Write everything out", &path, e.into()))?;
    }
    std::fs::File::open(disk)
        .and_then(|device| device.sync_all())
        .map_err(|e| Cause::file("Write everything out", disk, e))
}
