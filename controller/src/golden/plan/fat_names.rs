//! Finds names that a FAT file system of the clones cannot hold, or cannot distinguish, before a node is
//! touched.
//!
//! The contents of a golden FAT fit on another FAT, except for the characters of names: the nodes write
//! UTF-8, regardless of this machine's mount options. The contents of a directory that is on a FAT only on
//! the clones (`--firmware auto`) may not fit at all.

use super::{PlanError, Planned};
use crate::golden::chosen::Source;
use crate::golden::view::View;
use ka::archive::shown;
use ka::letter_case;
use ka::plan::{FileSystemKind, FileSystemPlan};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, FileType};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The characters that a FAT name cannot contain.
const FORBIDDEN: &[u8] = b"\"*:<>?|\\";

/// Rejects a plan that would lose files on a FAT, or fail on a node that is already erased.
pub(super) fn check(planned: &Planned) -> Result<(), PlanError> {
    let file_systems = planned.plan.storage.file_systems();
    let points: Vec<&Path> = file_systems
        .filter(|fs| fs.kind == FileSystemKind::Vfat)
        .flat_map(FileSystemPlan::mount_points)
        .map(Path::new)
        .collect();
    if points.is_empty() {
        return Ok(());
    }
    let view = View::open(&planned.sources)?;
    for point in points {
        let around = |source: &&Source| point.starts_with(&source.mount_point);
        let depth = |source: &&Source| source.mount_point.components().count();
        let Some(source) = view.sources().iter().filter(around).max_by_key(depth) else { continue };
        let below = point.strip_prefix(&source.mount_point).unwrap_or(Path::new(""));
        let walk = Walk { of_fat: source.mount_point == point, exclude: &planned.exclude };
        if let Some(Fault { path, reason }) = walk.fault(&source.directory.join(below), point) {
            return Err(PlanError::Unsupported {
                golden: shown(path.as_os_str().as_bytes()),
                reason: format!("{reason}: rename it, or leave its directory out with `-x`"),
            });
        }
    }
    Ok(())
}

struct Walk<'a> {
    /// The files are on a FAT here, too.
    of_fat: bool,
    exclude: &'a [PathBuf],
}

/// The file that cannot be copied, and the reason.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    path: PathBuf,
    reason: String,
}

impl Walk<'_> {
    /// The first problem below a directory that is visible at `seen`. Unreadable files are left to the packer
    /// to report.
    fn fault(&self, directory: &Path, seen: &Path) -> Option<Fault> {
        let mut waiting = vec![PathBuf::new()];
        while let Some(below) = waiting.pop() {
            let at = seen.join(&below);
            if self.exclude.contains(&at) {
                continue;
            }
            let mut names: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
            for entry in fs::read_dir(directory.join(&below)).into_iter().flatten().flatten() {
                let (name, Ok(kind)) = (entry.file_name(), entry.file_type()) else { continue };
                let fault = |reason| Some(Fault { path: at.join(&name), reason });
                if let Some(reason) = self.no_place(name.as_bytes(), kind) {
                    return fault(reason.to_owned());
                }
                let folded = letter_case::folded(name.as_bytes());
                if let Some(other) = names.insert(folded, name.as_bytes().to_vec()) {
                    let other = shown(&other);
                    return fault(format!(
                        "on the clones' FAT it has the same name as {other} in its \
                        directory"
                    ));
                }
                if kind.is_dir() {
                    waiting.push(below.join(OsStr::from_bytes(name.as_bytes())));
                }
            }
        }
        None
    }

    /// Why a FAT cannot hold something.
    fn no_place(&self, name: &[u8], kind: FileType) -> Option<&'static str> {
        let text = match std::str::from_utf8(name) {
            Ok(text) => text,
            Err(_) if self.of_fat => {
                return Some(
                    "its name is not UTF-8, which the clones' FAT requires: mount it here with `utf8=1`",
                );
            }
            Err(_) => return Some("its name is not UTF-8, and the clones have it on a FAT"),
        };
        if self.of_fat || kind.is_socket() {
            return None;
        }
        if !kind.is_dir() && !kind.is_file() {
            return Some("the clones have it on a FAT, which cannot hold links, pipes or devices");
        }
        let bad = |b: &u8| *b < b' ' || FORBIDDEN.contains(b);
        (text.as_bytes().iter().any(bad) || text.ends_with(['.', ' ']))
            .then_some("the clones have it on a FAT, which cannot hold such a name")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// The problem with a tree of these files, as `path: reason`.
    fn found(names: &[&[u8]], of_fat: bool, exclude: &[PathBuf]) -> Option<String> {
        let top = tempfile::tempdir().unwrap();
        for name in names {
            let path = top.path().join(OsStr::from_bytes(name));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let fault = Walk { of_fat, exclude }.fault(top.path(), Path::new("/boot/efi"))?;
        Some(format!("{}: {}", shown(fault.path.as_os_str().as_bytes()), fault.reason))
    }

    #[test]
    fn names_that_a_fat_takes_are_let_through() {
        for of_fat in [false, true] {
            let names: [&[u8]; 3] =
                ["EFI/BOOT/BOOTX64.EFI".as_bytes(), b"EFI/debian/grub.cfg", "ü/ü".as_bytes()];
            assert_eq!(found(&names, of_fat, &[]), None);
        }
    }

    #[test]
    fn names_that_become_one_are_refused() {
        let told = found(&[b"EFI/a/grubx64.efi", b"EFI/a/GRUBX64.EFI"], false, &[]).unwrap();
        assert!(told.starts_with("/boot/efi/EFI/a/") && told.contains("the same name as"), "{told}");
        assert!(found(&[b"EFI/x", b"efi/y"], false, &[]).is_some(), "directories too");
        assert_eq!(found(&[b"EFI/x", b"EFI/y/x"], false, &[]), None);
        let excluded = [PathBuf::from("/boot/efi/EFI/a")];
        assert_eq!(found(&[b"EFI/a/grubx64.efi", b"EFI/a/GRUBX64.EFI"], false, &excluded), None);
    }

    #[test]
    fn what_a_fat_does_not_hold_is_refused() {
        for name in [&b"a:b"[..], b"what?", b"dot.", b"blank ", b"bell\x07"] {
            let told = found(&[name], false, &[]).unwrap();
            assert!(told.contains("cannot hold such a name"), "{told}");
            assert_eq!(found(&[name], true, &[]), None, "a FAT has it already, however that is");
        }
        for of_fat in [false, true] {
            let told = found(&[b"caf\xe9"], of_fat, &[]).unwrap();
            assert!(told.contains("not UTF-8"), "{told}");
        }
        let top = tempfile::tempdir().unwrap();
        symlink("x", top.path().join("link")).unwrap();
        let fault = Walk { of_fat: false, exclude: &[] }.fault(top.path(), Path::new("/boot/efi")).unwrap();
        assert_eq!(fault.path, Path::new("/boot/efi/link"));
    }
}
