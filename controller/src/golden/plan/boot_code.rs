//! Boot code for the first sector (`-m`, `-M`), if the run installs no boot loader of its own.

use super::{PlanError, Request, WantedBootCode};
use crate::golden::scan::{self, BOOT_CODE, GoldenDisk};
use ka::plan::{DiskPlan, Loader, Storage};
use std::path::Path;

/// Adds the requested boot code for a disk to the disk's plan, which is the only one in `storage`.
pub(super) fn add(
    request: &Request<'_>,
    golden: &GoldenDisk,
    storage: &mut Storage,
) -> Result<(), PlanError> {
    let is_this = |wanted: &&WantedBootCode| names(wanted, golden, storage.disks.first());
    let mut all = request.boot_code.iter().filter(is_this);
    let Some(wanted) = all.next() else { return Ok(()) };
    let wrong = |reason: &str| PlanError::BootCode { disk: wanted.disk.clone(), reason: reason.to_owned() };
    if all.next().is_some() {
        return Err(wrong("it is asked for twice"));
    }
    let boots = ["/", "/boot"].iter().any(|point| storage.at(point).is_some());
    if request.boot.loader != Loader::None && boots {
        return Err(wrong("GRUB writes its own there: give `-r none` too, or leave it out"));
    }
    let code = match &wanted.file {
        Some(file) => read(file)?,
        None => scan::boot_code(&golden.name)?.to_vec(),
    };
    storage.disks.iter_mut().for_each(|plan| plan.boot_code = Some(code.clone()));
    Ok(())
}

/// Whether each names a disk that is copied.
pub(super) fn check(request: &Request<'_>, disks: &[GoldenDisk]) -> Result<(), PlanError> {
    for wanted in request.boot_code {
        let mut places = request.disks.iter().zip(disks);
        if !places.any(|(disk, golden)| {
            names(wanted, golden, None) || disk.disk.name() == Some(wanted.disk.as_str())
        }) {
            let reason = "it is not a disk that is copied (-p)".to_owned();
            return Err(PlanError::BootCode { disk: wanted.disk.clone(), reason });
        }
    }
    Ok(())
}

fn names(wanted: &WantedBootCode, golden: &GoldenDisk, plan: Option<&DiskPlan>) -> bool {
    wanted.disk == golden.name || plan.is_some_and(|plan| plan.disk.name() == Some(wanted.disk.as_str()))
}

fn read(file: &Path) -> Result<Vec<u8>, PlanError> {
    let mut bytes =
        std::fs::read(file).map_err(|source| PlanError::Read { file: file.to_owned(), error: source })?;
    // A whole sector is accepted, too: it contains a table after the boot code, which is not used.
    if !matches!(bytes.len(), 440 | BOOT_CODE | 512) {
        let problem =
            format!("expected {BOOT_CODE} bytes of boot code, or a sector of 512, found {}", bytes.len());
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, problem);
        return Err(PlanError::Read { file: file.to_owned(), error: source });
    }
    bytes.resize(BOOT_CODE, 0);
    Ok(bytes)
}
