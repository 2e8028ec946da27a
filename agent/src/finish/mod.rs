//! Turns copied files into a machine that boots and has its own identity.
//!
//! Right after unpacking, the tree under the new root is the golden node's: it names the golden node's file
//! systems, has its identity, and its boot loader consists of files that no firmware starts. The finish
//! changes that with the copied system's own tools, run in a chroot. What the firmware starts is not written
//! here but returned, so that a node that fails or loses power on the way has nothing to boot.

/// Logs a warning that is also counted in the run's report.
macro_rules! warning {
    ($($text:tt)*) => {
        crate::notes::warn(ka::notes::NoteKind::Finish, format_args!($($text)*))
    };
}

mod boot;
mod chroot;
mod config;
mod error;
mod esp;
mod first_boot;
mod hooks;
mod replace;
mod times;
mod tool;

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ka::inventory::Firmware;
use ka::mac::Mac;
use ka::plan::{FileSystemKind, FileSystemPlan, Plan};
use ka::step::Step;

use crate::disk::{BootCode, MadeFileSystem, RawPartition};
use crate::step::step;
use boot::loader::Setting;
use boot::{initrd, loader};
pub use chroot::inside;
use chroot::{Chroot, DeviceLinks};
use config::names::Names;
use config::{debconf, fstab, hostname, identity, lvm, modprobe, network, references, strangers, swap_files};
pub use error::{Cause, FinishError};
pub use esp::HeldBack;
use ka_host::hardware::{self, CardModules, SlottedCard};
use times::Times;

/// A copied system and the machine that it becomes.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'a> {
    /// The mount point of the system's root. All of `made` is mounted below it, and the tree is complete.
    pub root: &'a Path,
    /// The run's settings.
    pub plan: &'a Plan,
    /// The node's new file systems.
    pub made: &'a [MadeFileSystem],
    /// The partitions copied byte by byte, with their names.
    pub raw: &'a [MadeFileSystem],
    /// The boot disk.
    pub disk: &'a Path,
    /// The machine.
    pub machine: &'a Machine,
}

/// What the finish needs to know about the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The firmware that starts it.
    pub firmware: Firmware,
    /// The drivers for its disks, by the kernel's names.
    pub storage_modules: Vec<String>,
    /// Its network cards, the one through which it was reached first.
    pub cards: Vec<CardModules>,
    /// Its network cards as hardware, in slot order.
    pub slots: Vec<SlottedCard>,
    /// The hardware address of the card through which it was reached.
    pub mac: Option<Mac>,
    /// That card's IP address.
    pub address: Option<IpAddr>,
    /// The static agent, if the clone should report its first boot.
    pub agent: Option<PathBuf>,
}

impl Machine {
    /// All drivers for its storage and its network.
    fn modules(&self) -> Vec<String> {
        let network = self.cards.iter().flat_map(|card| &card.modules);
        self.storage_modules.iter().chain(network).cloned().collect()
    }
}

/// The last writes, which make the node bootable: for after everything else is written out and unmounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWrites {
    /// The code for the disk's first sector, if a BIOS starts it.
    pub boot_code: Option<BootCode>,
    made: Vec<MadeFileSystem>,
}

impl LastWrites {
    /// Makes the loader that [`HeldBack`] has hidden visible to a UEFI firmware. Nothing may be mounted.
    ///
    /// # Errors
    /// The EFI system partition cannot be mounted or written. The node does not boot then.
    pub fn release(&self) -> Result<(), Cause> {
        esp::release(&self.made)
    }
}

/// The names of a partition copied byte by byte: its contents keep theirs, and the partition has its own.
#[must_use]
pub fn names_of_raw(raw: &RawPartition) -> MadeFileSystem {
    let golden = raw.plan.golden.clone();
    MadeFileSystem {
        uuid: golden.as_ref().and_then(|golden| golden.uuid.clone()).unwrap_or_default(),
        plan: FileSystemPlan {
            label: golden.as_ref().and_then(|golden| golden.label.clone()),
            golden,
            // It is not mounted or created here, so its type does not matter.
            ..FileSystemPlan::new(FileSystemKind::Ext4)
        },
        device: raw.device.clone(),
        on: raw.on.clone(),
        partuuid: raw.partuuid.clone(),
    }
}

/// Makes a copied system boot on this node from its disk. Needs root's rights.
///
/// On return everything is on the disk except what a firmware starts: boot code is returned, and the EFI
/// system partition is hidden from the firmware if it was held back. Only `made` is mounted below the root.
///
/// # Errors
/// The first failed step, with its cause. The tree is then unusable and must not be booted.
pub fn finish(copied: &Copied<'_>) -> Result<LastWrites, FinishError> {
    let Copied { root, plan, made, raw, disk, machine } = *copied;
    let all = [made, raw].concat();
    // The times come first, before the finish itself changes them.
    let times = named(Step::NoteTimes, || Times::record(root))?;
    let links = named(Step::NameDevices, || DeviceLinks::make(&all))?;
    let chroot = named(Step::EnterCopy, || Chroot::mount(root))?;

    // Opened here, outside the chroot, where its path is valid.
    let agent = machine.agent.as_deref().filter(|_| plan.finish.first_boot.is_some());
    let agent = named(Step::OpenAgent, || agent.map(open).transpose())?;
    let disks = hardware::disks(false).into_iter();
    let disks = disks.map(|disk| (Path::new("/dev").join(disk.name), disk.by_id)).collect();
    let outcome = inside(root, || {
        let top = Path::new("/");
        let names = named(Step::ReadNames, || names(top, &all))?;
        named(Step::RewriteFstab, || {
            fstab::write(top, &names)?;
            let converted = machine.firmware != plan.boot.golden_firmware;
            let esp = esp::of(made).filter(|_| converted && machine.firmware == Firmware::Uefi);
            esp.map_or(Ok(()), |esp| fstab::add_system_partition(top, esp))
        })?;
        named(Step::SwapFiles, || swap_files::renew(top))?;
        named(Step::RewriteNames, || references::write(top, &names))?;
        named(Step::LvmFiles, || lvm::write(top, &names))?;
        named(Step::GrubDisk, || debconf::write(top, &names, disk, &disks))?;
        named(Step::ShowCommandLine, || {
            chroot::show_command_line(top, &references::command_line(top, &names)?)
        })?;
        if let Some(name) = &plan.finish.name {
            let address = name.address.as_ref().map(|own| own.address);
            named(Step::NameNode, || hostname::write(top, &name.hostname, address))?;
        }
        let cards = network::Cards { reached: machine.mac, all: &machine.slots };
        named(Step::RewriteNetwork, || network::write(top, &plan.finish, &cards))?;
        named(Step::Identity, || identity::renew(top, &hostname::read(top)?))?;
        named(Step::NameDrivers, || modprobe::write(top, &machine.cards, &machine.storage_modules))?;
        match (&plan.finish.first_boot, agent) {
            (Some(first_boot), Some(agent)) => {
                named(Step::PrepareFirstBoot, || first_boot::write(top, first_boot, agent))?;
            }
            (Some(_), None) => {
                warning!("the first boot will not be reported: the agent to install is missing")
            }
            (None, _) => {}
        }
        named(Step::SiteSteps, || hooks::run(top, &facts(copied, &names, top)?))?;
        named(Step::Initrd, || initrd::rebuild(top, &plan.boot, &machine.modules()))?;
        let (firmware, order) = (machine.firmware, plan.boot.order);
        let require_nvram = plan.boot.require_nvram;
        let setting = Setting { root: top, disk, firmware, order, require_nvram, names: &names };
        let boot_code = named(Step::BootLoader, || loader::install(&plan.boot, &setting))?;
        named(Step::SearchNames, || strangers::report(top, &plan.finish, &names, &hostname::read(top)?))?;
        Ok(boot_code)
    })
    .map_err(|source| FinishError {
        step: Step::EnterCopy,
        cause: Cause::file("change the root to", root, source),
    });

    let left = named(Step::LeaveCopy, || chroot.undo());
    drop(links);
    let boot_code = outcome??;
    left?;
    named(Step::KeepTimes, || times.restore())?;
    named(Step::Sync, || sync(root, made, disk))?;
    Ok(LastWrites { boot_code, made: made.to_vec() })
}

fn open(path: &Path) -> Result<File, Cause> {
    File::open(path).map_err(|e| Cause::file("open", path, e))
}

/// Facts for a site's own steps, as environment variables.
fn facts(copied: &Copied<'_>, names: &Names<'_>, top: &Path) -> Result<Vec<(&'static str, String)>, Cause> {
    let Machine { firmware, cards, mac, address, .. } = copied.machine;
    let root = names.at("/");
    let firmware = match firmware {
        Firmware::Bios => "bios",
        Firmware::Uefi => "uefi",
    };
    let text = |value: Option<String>| value.unwrap_or_default();
    Ok(vec![
        ("KA_RUN", copied.plan.run.clone()),
        ("KA_HOSTNAME", hostname::read(top)?),
        ("KA_MAC", text(mac.map(|mac| mac.to_string()))),
        ("KA_ADDRESS", text(address.map(|address| address.to_string()))),
        ("KA_INTERFACE", text(cards.first().map(|card| card.interface.clone()))),
        ("KA_DISK", copied.disk.display().to_string()),
        ("KA_ROOT_DEVICE", text(root.map(|fs| fs.device.display().to_string()))),
        ("KA_ROOT_UUID", text(root.map(|fs| fs.uuid.clone()))),
        ("KA_FIRMWARE", firmware.to_owned()),
        ("KA_LOADER", copied.plan.boot.loader.to_string()),
    ])
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

fn named<T>(name: Step, work: impl FnOnce() -> Result<T, Cause>) -> Result<T, FinishError> {
    step(name, work).map_err(|cause| FinishError { step: name, cause })
}

/// Writes out the new file systems and the disk's first sectors, which belong to no file system.
fn sync(root: &Path, made: &[MadeFileSystem], disk: &Path) -> Result<(), Cause> {
    for point in made.iter().flat_map(MadeFileSystem::mount_points) {
        let path = root.join(point.trim_start_matches('/'));
        let directory = File::open(&path).map_err(|e| Cause::file("open", &path, e))?;
        rustix::fs::syncfs(&directory).map_err(|e| Cause::file("Write everything out", &path, e.into()))?;
    }
    File::open(disk)
        .and_then(|device| device.sync_all())
        .map_err(|e| Cause::file("Write everything out", disk, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MadeOn;
    use ka::plan::{GoldenNames, RawPlan};

    #[test]
    fn what_is_copied_byte_by_byte_has_the_golden_label() {
        let golden = GoldenNames { label: Some("scratch".to_owned()), ..GoldenNames::default() };
        let raw = RawPartition {
            plan: RawPlan { name: "sda3".to_owned(), size: 1, golden: Some(golden) },
            device: "/dev/vda3".into(),
            on: MadeOn::Partition(3),
            partuuid: "cafe0000-03".to_owned(),
            size: 1,
            file: File::open("/dev/null").unwrap(),
        };
        let made = [names_of_raw(&raw)];
        assert_eq!(Names::new(&made).resolve("LABEL=scratch"), config::names::Named::Kept);
        assert_eq!(Names::new(&made).resolve("LABEL=other"), config::names::Named::Missing);
    }
}
