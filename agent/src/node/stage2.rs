//! Stage2: the process moves into the received tree, and examines the machine with its tools.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ka::inventory::{Firmware, Inventory};
use ka::step::Step;
use rustix::mount::mount_bind_recursive;

use super::stage1::{STAGE2, Stage1};
use super::trouble;
use crate::boot::modules::{Modules, QUIET, QUIET_DISKS};
use crate::step::step;
use ka_host::hardware;

/// How long the first disk may take to appear: RAID controllers start their disks one by one.
const DISK_PATIENCE: Duration = Duration::from_secs(60);

/// Makes stage2 this process's root, and mounts the kernel's file systems in it.
pub(super) fn enter() -> Result<(), String> {
    step(Step::EnterStage2, || {
        for directory in ["dev", "proc", "sys", "run"] {
            let to = Path::new(STAGE2).join(directory);
            fs::create_dir_all(&to).map_err(trouble("make a mount point in stage2"))?;
            mount_bind_recursive(Path::new("/").join(directory), &to).map_err(trouble("mount in stage2"))?;
        }
        nix::unistd::chroot(STAGE2).map_err(trouble("change the root to stage2"))?;
        nix::unistd::chdir("/").map_err(trouble("change to stage2"))
    })
}

/// A machine without any disk cannot be a node: if there is none yet, a RAID controller is still starting its
/// own.
fn wait_for_a_disk(modules: &mut Modules) {
    let start = Instant::now();
    while hardware::disks(false).is_empty() {
        if start.elapsed() >= DISK_PATIENCE {
            log::warn!("no disk has appeared within {} s", DISK_PATIENCE.as_secs());
            return;
        }
        modules.load_for_devices(QUIET);
    }
}

/// Loads the drivers of disks and file systems, and logs a description of the machine.
pub(super) fn take_stock(node: &Stage1) -> Result<Inventory, String> {
    step(Step::StorageDrivers, || {
        let words = fs::read_to_string("/proc/cmdline").map_err(trouble("/proc/cmdline"))?;
        let mut modules = Modules::open(Path::new("/"), &words).map_err(|e| e.to_string())?;
        modules.load_for_devices(QUIET_DISKS);
        wait_for_a_disk(&mut modules);
        // No device requests the file system through which the firmware's boot entries are written.
        if hardware::firmware() == Firmware::Uefi
            && let Err(error) = modules.load("efivarfs")
        {
            log::warn!("{error}: the firmware's menu cannot be written");
        }
        Ok::<_, String>(())
    })?;
    let inventory = hardware::inventory(&node.network.uplink());
    for disk in &inventory.disks {
        log::info!(
            "disk {}: {} MB, model '{}', serial '{}'{}",
            disk.name,
            disk.size / 1_000_000,
            disk.model,
            disk.serial,
            if disk.contents.is_empty() { "" } else { ", not empty" }
        );
    }
    Ok(inventory)
}
