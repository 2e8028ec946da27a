//! Replaces a configuration file atomically, and keeps everything but its content.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use ka::archive::Xattr;
use ka_host::xattrs::Reader;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::finish::error::Cause;

/// The attribute with SELinux's label.
const LABEL: &str = "security.selinux";

/// Replaces the content of `path` with `content`: the old file exists until the new one is complete. Mode,
/// owner and extended attributes stay; a symbolic link stays and its target is replaced.
pub(in crate::finish) fn replace(path: &Path, content: &[u8]) -> Result<(), Cause> {
    let failed = |e| Cause::file("replace", path, e);
    let target = fs::canonicalize(path).map_err(failed)?;
    let beside = beside(&target);
    let written = write_like(&target, &beside, content).and_then(|()| fs::rename(&beside, &target));
    if written.is_err() {
        // The first error is reported; the new file may never have been created.
        let _ = fs::remove_file(&beside);
    }
    written.map_err(failed)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".ka-new");
    path.with_file_name(name)
}

fn write_like(model: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let old = File::open(model)?;
    let metadata = old.metadata()?;
    // Left by an interrupted attempt, or planted for us to follow.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut new = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    new.write_all(content)?;
    // The owner first: a change of owner clears set-id bits and capabilities.
    fchown(&new, Some(metadata.uid()), Some(metadata.gid()))?;
    new.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    copy_xattrs(&old, &new)?;
    new.sync_all()
}

/// Creates `path`, or replaces it. A dangling link is replaced by the file. With SELinux, the file gets its
/// directory's label, as if a process of the system had created it.
pub(in crate::finish) fn create(path: &Path, content: &[u8]) -> Result<(), Cause> {
    let failed = |e| Cause::file("make", path, e);
    if path.is_symlink() && matches!(fs::metadata(path), Err(e) if e.kind() == io::ErrorKind::NotFound) {
        warning!("{} was a link that leads nowhere, and is a file now", path.display());
        fs::remove_file(path).map_err(failed)?;
    }
    let is_new = !path.exists();
    fs::write(path, content).map_err(failed)?;
    if is_new { label_like_directory(path) } else { Ok(()) }
}

/// The label of its directory for a new file, if any.
pub(in crate::finish) fn label_like_directory(path: &Path) -> Result<(), Cause> {
    path.parent().map_or(Ok(()), |directory| label_like(directory, path))
}

/// Copies SELinux's label from `model` to a new file, if it has one.
pub(in crate::finish) fn label_like(model: &Path, path: &Path) -> Result<(), Cause> {
    let mut label = [0; 4096];
    match rustix::fs::getxattr(model, LABEL, &mut label) {
        Ok(used) => {
            let label = label.get(..used).unwrap_or_default();
            match rustix::fs::setxattr(path, LABEL, label, XattrFlags::empty()) {
                Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
                Err(e) => Err(Cause::file("label", path, e.into())),
            }
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        Err(e) => Err(Cause::file("read the label of", model, e.into())),
    }
}

pub(in crate::finish) fn copy_xattrs(from: &File, to: &File) -> io::Result<()> {
    for Xattr { name, value } in Reader::new().of(from, from.metadata()?.dev())? {
        rustix::fs::fsetxattr(to, name, &value, XattrFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bytes_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fstab");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::chown(&path, Some(1), Some(2)).unwrap();
        rustix::fs::setxattr(&path, "trusted.ka", b"kept", XattrFlags::empty()).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("fstab", &link).unwrap();

        replace(&link, b"new").unwrap();

        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o640, 1, 2));
        let mut value = [0u8; 16];
        let used = rustix::fs::getxattr(&path, "trusted.ka", &mut value).unwrap();
        assert_eq!(&value[..used], b"kept");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left beside");
    }

    #[test]
    fn a_new_file_has_its_directorys_label_and_no_link_is_in_its_way() {
        let directory = tempfile::tempdir().unwrap();
        let label = b"system_u:object_r:etc_t:s0\0";
        rustix::fs::setxattr(directory.path(), LABEL, label, XattrFlags::empty()).unwrap();
        let path = directory.path().join("hostname");
        std::os::unix::fs::symlink("nowhere/hostname", &path).unwrap();

        create(&path, b"node7\n").unwrap();

        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(fs::read(&path).unwrap(), b"node7\n");
        let mut found = [0; 64];
        let used = rustix::fs::getxattr(&path, LABEL, &mut found).unwrap();
        assert_eq!(&found[..used], label);
        create(&path, b"node8\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"node8\n");
    }
}
