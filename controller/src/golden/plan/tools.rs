//! Whether the nodes have the tools that make the golden node's kinds of file system.

use super::PlanError;
use ka::plan::{FileSystemKind, Plan};
use std::path::Path;

/// Names the first file system that the nodes cannot make. Tools without which there is no tree at all are not
/// looked for.
pub(super) fn check(stage2: &Path, plan: &Plan) -> Result<(), PlanError> {
    let is_there = |program: &&str| {
        ["usr/sbin", "usr/bin", "sbin", "bin"].iter().any(|dir| stage2.join(dir).join(program).exists())
    };
    if let Some(group) = plan.storage.groups.first()
        && !is_there(&"lvm")
    {
        return Err(PlanError::Tool {
            golden: format!("volume group {}", group.name),
            kind: "LVM",
            program: "lvm",
            package: "lvm2",
            stage2: stage2.to_owned(),
        });
    }
    for volume in &plan.storage.volumes {
        let Some(fs) = volume.file_system() else { continue };
        let (programs, package): (&[&'static str], _) = match fs.kind {
            FileSystemKind::Ext2 | FileSystemKind::Ext3 | FileSystemKind::Ext4 => continue,
            FileSystemKind::Swap => continue,
            FileSystemKind::Xfs => (&["mkfs.xfs"], "xfsprogs"),
            FileSystemKind::Jfs => (&["mkfs.jfs"], "jfsutils"),
            FileSystemKind::Reiserfs => (&["mkfs.reiserfs"], "reiserfsprogs"),
            FileSystemKind::Btrfs => (&["mkfs.btrfs", "btrfs"], "btrfs-progs"),
            FileSystemKind::Vfat => (&["mkfs.vfat"], "dosfstools"),
        };
        if let Some(program) = programs.iter().find(|program| !is_there(*program)) {
            let device = fs.golden.as_ref().and_then(|golden| golden.devices.first());
            return Err(PlanError::Tool {
                golden: device.cloned().unwrap_or_else(|| volume.name(&plan.storage).to_string()),
                kind: fs.kind.name(),
                program,
                package,
                stage2: stage2.to_owned(),
            });
        }
    }
    Ok(())
}
