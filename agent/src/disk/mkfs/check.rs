//! What a file system's own checker says of it, when nothing is on it yet.
//!
//! The superblock alone does not tell whether the medium has kept the rest: an empty file system is little more than its
//! tables, and to read them all takes no time. One with files is proven by reading files back.

use ka::notes::NoteKind;
use ka::plan::FileSystemKind;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::disk::error::DiskError;
use crate::notes;
use crate::step::goes_on;
use ka_host::tool::{self, End};

/// A checker that only looks, and the bits of its exit status that tell of damage: anything else is its own trouble.
struct Checker {
    program: &'static str,
    arguments: &'static [&'static str],
    damaged: i32,
}

/// Of fsck(8): errors are left, or so many that it could not go on.
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
        // reiserfsck asks a person; of a swap space, the superblock is all.
        FileSystemKind::Reiserfs | FileSystemKind::Swap => None,
    }
}

/// Has the checker look at a file system that is not mounted. Without a checker, or if that cannot work, nothing is known.
///
/// # Errors
/// It has found damage: [`DiskError::NotKept`].
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
