//! Partitions that are written byte by byte, as the golden node has them.

use super::MadeOn;
use super::claim;
use super::error::DiskError;
use crate::unpack;
use ka::plan::RawPlan;
use ka_host::sys::block;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// A partition that waits for the bytes of a golden one. Nobody else can use it while this lives.
#[derive(Debug)]
pub struct RawPartition {
    /// What was asked for; its name is that of the golden partition.
    pub plan: RawPlan,
    /// The partition's device node.
    pub device: PathBuf,
    /// What it is.
    pub on: MadeOn,
    /// The partition's PARTUUID as the kernel and blkid print it.
    pub partuuid: String,
    /// Its size in bytes: at least the golden one's.
    pub size: u64,
    /// The partition, open for reading and writing.
    pub file: File,
}

impl RawPartition {
    pub(super) fn open(
        plan: &RawPlan,
        device: PathBuf,
        on: MadeOn,
        partuuid: String,
    ) -> Result<Self, DiskError> {
        let file = claim::open_exclusive(&device, true)
            .map_err(|e| DiskError::io(&device, "open it for the golden partition's bytes", e))?;
        let size = block::size(&file).map_err(|e| DiskError::io(&device, "get its size", e))?;
        Ok(Self { plan: plan.clone(), device, on, partuuid, size, file })
    }

    /// It, for whoever unpacks.
    ///
    /// # Errors
    /// When no more files can be open.
    pub fn target(&self) -> std::io::Result<unpack::Partition> {
        let file = Arc::new(self.file.try_clone()?);
        Ok(unpack::Partition {
            name: self.plan.name.clone(),
            device: self.device.clone(),
            file,
            size: self.size,
        })
    }

    /// Writes out what was written to it.
    pub(super) fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_all().map_err(|e| DiskError::io(&self.device, "write everything out", e))
    }
}
