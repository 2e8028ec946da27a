//! Files that fscrypt or fs-verity keeps: no copy can have that, which must be known before a node is touched.

use super::{PlanError, Planned};
use crate::golden::view::View;
use ka::plan::FileSystemPlan;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use std::fs;
use std::path::{Path, PathBuf};

/// What is found below one mount point.
#[derive(Default)]
struct Found {
    encrypted: Option<PathBuf>,
    verity: u64,
    first_verity: Option<PathBuf>,
}

/// Refuses a plan that would copy encrypted directories as plain text, or not at all; notes what fs-verity guards. Only
/// file systems with these features are walked.
pub(super) fn check(planned: &mut Planned) -> Result<(), PlanError> {
    let may_have = |fs: &FileSystemPlan| {
        let mut features = fs.shape.features.iter().flatten();
        features.any(|name| name == "encrypt" || name == "verity")
    };
    let points: Vec<PathBuf> = planned
        .plan
        .storage
        .file_systems()
        .filter(|fs| may_have(fs))
        .flat_map(FileSystemPlan::mount_points)
        .map(PathBuf::from)
        .collect();
    if points.is_empty() {
        return Ok(());
    }
    let view = View::open(&planned.sources)?;
    for source in view.sources().iter().filter(|source| points.contains(&source.mount_point)) {
        let mut found = Found::default();
        walk(&source.directory, &source.mount_point, &planned.exclude, &mut found);
        if let Some(path) = found.encrypted {
            return Err(PlanError::Unsupported {
                golden: path.display().to_string(),
                reason: "it is encrypted (fscrypt), and no clone has its keys: decrypt it, or leave it out with `-x`"
                    .to_owned(),
            });
        }
        if let Some(first) = found.first_verity {
            planned.notes.push(format!(
                "{} files are guarded by fs-verity, such as {}: the clones have them without it",
                found.verity,
                first.display()
            ));
        }
    }
    Ok(())
}

/// Looks at everything below a directory that is to be copied. What cannot be looked at is the packer's to tell.
fn walk(directory: &Path, mount_point: &Path, exclude: &[PathBuf], found: &mut Found) {
    let mut waiting = vec![PathBuf::new()];
    while let Some(below) = waiting.pop() {
        let seen = mount_point.join(&below);
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        // The source itself may be given by a link.
        let flags = if below.as_os_str().is_empty() { AtFlags::NO_AUTOMOUNT } else { flags };
        let Ok(stat) = statx(CWD, directory.join(&below), flags, StatxFlags::TYPE) else { continue };
        let attributes = stat.stx_attributes;
        if exclude.contains(&seen) {
            continue;
        }
        if attributes.contains(StatxAttributes::ENCRYPTED) {
            found.encrypted.get_or_insert(seen);
            return;
        }
        if attributes.contains(StatxAttributes::VERITY) {
            found.verity += 1;
            found.first_verity.get_or_insert(seen);
        }
        let is_directory = rustix::fs::FileType::from_raw_mode(stat.stx_mode.into()).is_dir();
        if is_directory {
            let entries = fs::read_dir(directory.join(&below)).into_iter().flatten().flatten();
            waiting.extend(entries.map(|entry| below.join(entry.file_name())));
        }
    }
}
