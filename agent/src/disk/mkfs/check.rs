//! Runs a file system's own checker on a new, empty file system.
//!
//! The superblock alone does not show whether the medium has kept the rest. An empty file system is little
//! more than its tables, so reading all of them is quick. A file system with files is verified by reading
//! files back.

use ka::notes::NoteKind;
use ka::plan::FileSystemKind;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::disk::error::DiskError;
use crate::notes;
use crate::step::goes_on;
use ka_host::tool::{self, End};

/// A read-only checker, and the bits of its exit status that indicate damage; any other status is a failure
/// of the checker itself.
struct Checker {
    program: &'static str,
    arguments: &'static [&'static str],
    damaged: i32,
}

/// From fsck(8): errors are left, or there were too many to continue.
const STILL_DAMAGED: i32 = 4 | 8;

fn checker(kind: FileSystemKind) -> Option<Checker> {
    let of = |program, arguments, damaged| Some(Checker { program, arguments, damaged });
    match kind {
        FileSystemKind::Ext2 | FileSystemKind::Ext3 | FileSystemKind::Ext4 => {
            of("e2fsck", &["-fn"], STILL_DAMAGED)
        }
        FileSystemKind::Xfs => of("xfs_repair", &["-n"], 1),
        FileSystemKind::Btrfs => of("btrfs", &["check", "--readonly"], 1),
        FileSystemKind::Vfat => of("fsck.vfat", &["-n"], 1),
        FileSystemKind::Jfs => of("fsck.jfs", &["-n"], STILL_DAMAGED),
        // reiserfsck asks for confirmation; a swap space has only its superblock.
        FileSystemKind::Reiserfs | FileSystemKind::Swap => None,
    }
}

/// Runs the checker on an unmounted file system. If there is no checker, or it cannot work, the result is
/// unknown.
///
/// # Errors
/// The checker found damage: [`DiskError::NotKept`].
pub(in crate::disk) fn check(kind: FileSystemKind, device: &Path) -> Result<(), DiskError> {
    let Some(Checker { program, arguments, damaged }) = checker(kind) else { return Ok(()) };
    goes_on(format_args!("check {}", device.display()));
    let mut command = Command::new(program);
    command.args(arguments).arg(device).env("LC_ALL", "C").stdin(Stdio::null());
    let unknown = |why: String| {
        notes::warn(
            NoteKind::Finish,
            format_args!("{}: nothing has checked the new {kind}: {program}: {why}", device.display()),
        );
        Ok(())
    };
    match tool::output(&mut command, super::LIMIT) {
        Ok(output) if output.end.success() => Ok(()),
        Ok(output) if is_damage(output.end, damaged) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            let said: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            let what = format!("{program} says: {}", said.join("; "));
            Err(DiskError::NotKept { device: device.to_owned(), what })
        }
        Ok(output) => unknown(output.end.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => unknown("it is not installed".into()),
        Err(error) => unknown(error.to_string()),
    }
}

fn is_damage(end: End, damaged: i32) -> bool {
    matches!(end, End::Exited(status) if status.code().is_some_and(|code| code & damaged != 0))
}
