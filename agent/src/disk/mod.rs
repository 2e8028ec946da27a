//! The node's disk: claim it, write its table, make and mount its file systems.
//!
//! [`prepare`] takes a disk to the point where files can be unpacked onto it; [`Prepared::unmount`] and
//! [`Prepared::activate`] end what it began, and [`Prepared::abandon`] undoes it.

pub mod blkid;
pub mod claim;
mod error;
mod mkfs;
pub mod mountinfo;
mod mounts;
pub mod sysfs;
mod table;
mod wait;

use crate::step::step;
use claim::Claim;
pub use error::DiskError;
use ka::disk::fit::{FitError, fit};
use ka::disk::layout::Layout;
use ka::disk::mbr::{self, DiskSignature, Mbr};
use ka::plan::{DiskPlan, FileSystemPlan};
use mounts::Mounts;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A disk that is partitioned, formatted and mounted. It stays locked until this is dropped, which
/// also unmounts it.
#[derive(Debug)]
pub struct Prepared {
    /// The whole disk's device node.
    pub disk: PathBuf,
    /// Its file systems and swap spaces, in the plan's order.
    pub made: Vec<MadeFileSystem>,
    /// Where the clone's root directory is mounted.
    pub root: PathBuf,
    // Before the claim: unmounted while the disk is still locked.
    mounts: Mounts,
    table: Mbr,
    claim: Claim,
}

/// A file system that was made on a partition, with the names that it has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeFileSystem {
    /// What was asked for.
    pub plan: FileSystemPlan,
    /// The partition's device node.
    pub device: PathBuf,
    /// The new file system's UUID as blkid prints it.
    pub uuid: String,
    /// The partition's PARTUUID as the kernel and blkid print it: `disk signature-number`.
    pub partuuid: String,
}

impl MadeFileSystem {
    /// Where it is mounted, as a whole or by its subvolumes.
    pub fn mount_points(&self) -> impl Iterator<Item = &str> {
        let subvolumes = self.plan.subvolumes.iter().map(|subvolume| &subvolume.mount_point);
        std::iter::once(&self.plan.mount_point).chain(subvolumes).filter_map(|point| point.as_deref())
    }
}

/// What the firmware starts: the bytes of sector 0 before the disk's signature. A boot loader's are kept
/// here while its files are written, since a disk that has them boots, active flag or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootCode(pub [u8; mbr::BOOT_CODE]);

/// Partitions a disk after the plan, makes its file systems, and mounts them below `root`.
///
/// # Errors
/// The disk may not be written, or the plan doesn't fit it: then nothing was written. Or a step failed
/// after the first write: then the table is cleared, so that the half-made system can't boot.
pub fn prepare(plan: &DiskPlan, root: &Path) -> Result<Prepared, DiskError> {
    let ready = step(&format!("Check disk {}", plan.disk), || check(plan))?;
    let Ready { claim, layout, table, bytes, old, exclusive } = ready;
    let partitioned = step(&format!("Write the partition table of {}", claim.name), || {
        table::write(&claim, &exclusive, &layout, &bytes, &old)
    });
    drop(exclusive);
    match partitioned.and_then(|()| fill(plan, root, &claim, &layout, table.signature)) {
        Ok((made, mounts)) => {
            Ok(Prepared { disk: claim.node.clone(), made, root: root.to_owned(), mounts, table, claim })
        }
        Err(first) => {
            clear(&claim);
            Err(first)
        }
    }
}

/// All that is known before the first write.
struct Ready {
    claim: Claim,
    layout: Layout,
    table: Mbr,
    bytes: [u8; mbr::SIZE],
    old: Vec<table::Extent>,
    exclusive: File,
}

/// Everything before the first write: the disk is the right one, nobody uses it, and the plan fits it.
fn check(plan: &DiskPlan) -> Result<Ready, DiskError> {
    let claim = claim::claim(&plan.disk.to_string())?;
    let layout =
        fit(plan, claim.size).map_err(|reason| DiskError::Fit { disk: claim.name.clone(), reason })?;
    let signature = fresh_signature().map_err(|e| DiskError::io(&claim.node, "get a disk signature", e))?;
    let table = Mbr::of(&layout, signature);
    let bytes = table.encode()?;
    let exclusive = claim.open_exclusive()?;
    let old = table::old_partitions(&claim, &exclusive)?;
    Ok(Ready { claim, layout, table, bytes, old, exclusive })
}

/// Makes and mounts the file systems of a disk whose table is written.
fn fill(
    plan: &DiskPlan,
    root: &Path,
    claim: &Claim,
    layout: &Layout,
    signature: DiskSignature,
) -> Result<(Vec<MadeFileSystem>, Mounts), DiskError> {
    let partitions = table::wait_for_partitions(claim, layout)?;
    let mut made = Vec::new();
    for fs in &plan.file_systems {
        let partition = partitions.iter().find(|p| p.number == fs.partition);
        let device = partition.map(sysfs::KernelPartition::node).ok_or_else(|| DiskError::Fit {
            disk: claim.name.clone(),
            reason: FitError::NoPartition(fs.partition),
        })?;
        let what = format!("Make {} on {}", fs.kind, device.display());
        made.push(step(&what, || mkfs::make(fs, &device, signature))?);
    }
    let mounts = step("Mount the new file systems", || mounts::mount_all(&made, root))?;
    Ok((made, mounts))
}

impl Prepared {
    /// Writes all files out and unmounts, inner file systems first.
    ///
    /// # Errors
    /// A write failed, or something still uses a file system.
    pub fn unmount(&mut self) -> Result<(), DiskError> {
        self.mounts.unmount()
    }

    /// Makes the disk bootable: the boot code and the active flag of the partition with the boot files, in
    /// one write of sector 0. This is the last write to the disk: to be called when everything else is
    /// written out and unmounted. Without boot code, those bytes stay as they are.
    ///
    /// # Errors
    /// The table on the disk is not the one that [`prepare`] wrote, or can't be written.
    pub fn activate(&self, boot_code: Option<&BootCode>) -> Result<(), DiskError> {
        let disk = self.claim.file();
        let node = &self.claim.node;
        let mut sector = [0; mbr::SIZE];
        disk.read_exact_at(&mut sector, 0).map_err(|e| DiskError::io(node, "read the partition table", e))?;
        let found = Mbr::decode(&sector)?;
        if found.signature != self.table.signature || found.entries != self.table.entries {
            return Err(DiskError::TableChanged { disk: self.claim.name.clone() });
        }
        let Some(number) = self.boot_partition() else {
            log::info!("{}: nothing to boot, so no partition is active", self.claim.name);
            return Ok(());
        };
        mbr::set_active(&mut sector, number)
            .map_err(|reason| DiskError::Activate { disk: self.claim.name.clone(), reason })?;
        if let Some(boot_code) = boot_code {
            sector[..mbr::BOOT_CODE].copy_from_slice(&boot_code.0);
        }
        // Whatever waits in the disk's own cache must be on the medium before this sector is.
        disk.sync_all()
            .and_then(|()| disk.write_all_at(&sector, 0))
            .and_then(|()| disk.sync_all())
            .map_err(|e| DiskError::io(node, "write the boot sector", e))
    }

    /// Unmounts, and clears the partition table, so that the half-made system can't boot. For a node
    /// whose work failed after [`prepare`].
    pub fn abandon(mut self) {
        self.mounts.detach();
        clear(&self.claim);
    }

    /// The partition that is mounted at `/boot`, else the one at `/`.
    fn boot_partition(&self) -> Option<u32> {
        let at = |path| self.made.iter().find(|fs| fs.plan.mount_point.as_deref() == Some(path));
        at("/boot").or_else(|| at("/")).map(|fs| fs.plan.partition)
    }
}

/// Clears the table after a failure. The failure itself is what the caller returns: what goes wrong
/// here is only logged.
fn clear(claim: &Claim) {
    match table::clear(claim) {
        Ok(()) => {
            log::warn!("{}: partition table cleared, so that the half-made system can't boot", claim.name)
        }
        Err(e) => log::error!("{}: the partition table can't be cleared after the failure: {e}", claim.name),
    }
}

/// A random number that is not zero, which means "no signature" to several tools.
fn fresh_signature() -> io::Result<DiskSignature> {
    loop {
        let uuid = mkfs::fresh_uuid()?;
        let digits = uuid.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match digits {
            Some(0) => {}
            Some(number) => return Ok(DiskSignature(number)),
            None => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("`{uuid}` is no UUID"))),
        }
    }
}
