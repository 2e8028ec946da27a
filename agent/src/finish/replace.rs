//! Replacing a configuration file at once, with everything but its bytes kept.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;

use super::error::Cause;

/// Replaces the content of `path` by `content`: the old file is there until the new one is whole. Mode,
/// owner and extended attributes stay; a symbolic link stays and its target is replaced.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), Cause> {
    let failed = |e| Cause::file("replace", path, e);
    let target = fs::canonicalize(path).map_err(failed)?;
    let beside = beside(&target);
    let written = write_like(&target, &beside, content).and_then(|()| fs::rename(&beside, &target));
    if written.is_err() {
        // The first error is the one to tell; a file that never came into being cannot be removed.
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
    let mut new = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    new.write_all(content)?;
    // The owner first: a change of owner clears set-id bits and capabilities.
    fchown(&new, Some(metadata.uid()), Some(metadata.gid()))?;
    new.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    copy_xattrs(&old, &new)?;
    new.sync_all()
}

fn copy_xattrs(from: &File, to: &File) -> io::Result<()> {
    let mut list = vec![0u8; rustix::fs::flistxattr_query(from)?];
    let used = rustix::fs::flistxattr(from, &mut list)?;
    list.truncate(used);
    for name in list.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; rustix::fs::fgetxattr_query(from, name)?];
        let used = rustix::fs::fgetxattr(from, name, &mut value)?;
        value.truncate(used);
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
}
