//! Reads all extended attributes of a file.
//!
//! The kernel's list is not always complete. ReiserFS in Linux 6.3 to 6.12 compares ACL names with an
//! unterminated string, and may omit one depending on the memory behind that string. On ReiserFS, ACLs are
//! therefore read by name.

use ka::archive::Xattr;
use rustix::fs::{fgetxattr, flistxattr, lgetxattr, llistxattr};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};

/// The kernel's limit on a value, and on a list of names (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const MAX: usize = 64 << 10;

/// The names that may be missing from the list.
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// The magic number of ReiserFS (statfs(2)).
const REISERFS: u64 = 0x5265_4973;

/// Reads extended attributes into buffers that are large enough for all of them.
pub struct Reader {
    names: Vec<u8>,
    value: Vec<u8>,
    /// The device of the last file read, and whether its file system lists all attributes.
    last: Option<(u64, bool)>,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// A reader with its own buffers, for many files.
    #[must_use]
    pub fn new() -> Self {
        Self { names: vec![0; MAX], value: vec![0; MAX], last: None }
    }

    /// The attributes of an open file on this device (`st_dev`), by name.
    ///
    /// # Errors
    /// The kernel's error; `E2BIG` if there are more names than it can list.
    pub fn of(&mut self, file: impl AsFd, device: u64) -> rustix::io::Result<Vec<Xattr>> {
        let lists_all = self.lists_all(file.as_fd(), device)?;
        let get = |name: &[u8], value: &mut [u8]| fgetxattr(&file, name, value);
        self.read(lists_all, |list| flistxattr(&file, list), get)
    }

    /// The attributes of a file at `path` that must not be opened, such as a link or a device. `beside` is
    /// open on the same file system.
    ///
    /// # Errors
    /// As for [`Reader::of`].
    pub fn at(&mut self, path: &[u8], beside: BorrowedFd<'_>, device: u64) -> rustix::io::Result<Vec<Xattr>> {
        let lists_all = self.lists_all(beside, device)?;
        let get = |name: &[u8], value: &mut [u8]| lgetxattr(path, name, value);
        self.read(lists_all, |list| llistxattr(path, list), get)
    }

    fn lists_all(&mut self, file: BorrowedFd<'_>, device: u64) -> rustix::io::Result<bool> {
        match self.last {
            Some((last, lists_all)) if last == device => Ok(lists_all),
            _ => {
                let kind = rustix::fs::fstatfs(file)?.f_type.cast_unsigned() & 0xffff_ffff;
                let lists_all = kind != REISERFS;
                self.last = Some((device, lists_all));
                Ok(lists_all)
            }
        }
    }

    /// An attribute that vanishes meanwhile is skipped; a file system without attributes has none.
    fn read(
        &mut self,
        lists_all: bool,
        list: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>,
        get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
    ) -> rustix::io::Result<Vec<Xattr>> {
        let len = match list(&mut self.names) {
            Err(Errno::OPNOTSUPP) => 0,
            len => len?,
        };
        let listed = self.names.get(..len).unwrap_or_default();
        let mut names: Vec<_> = listed.split(|&b| b == 0).filter(|name| !name.is_empty()).collect();
        if !lists_all {
            names.extend(ACLS);
        }
        names.sort_unstable();
        names.dedup();
        let mut xattrs = Vec::new();
        for name in names {
            let len = match get(name, &mut self.value) {
                Err(Errno::NODATA | Errno::OPNOTSUPP) => continue,
                len => len?,
            };
            let value = self.value.get(..len).unwrap_or_default().to_vec();
            xattrs.push(Xattr { name: name.to_vec(), value });
        }
        Ok(xattrs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with three attributes, some of which the kernel lists.
    fn read(lists_all: bool, listed: &[u8]) -> String {
        let list = |list: &mut [u8]| {
            list[..listed.len()].copy_from_slice(listed);
            Ok(listed.len())
        };
        let get = |name: &[u8], value: &mut [u8]| match name {
            b"system.posix_acl_access" | b"system.posix_acl_default" | b"user.x" => {
                value[0] = b'1';
                Ok(1)
            }
            _ => Err(Errno::NODATA),
        };
        let found = Reader::new().read(lists_all, list, get).unwrap();
        assert!(found.iter().all(|xattr| xattr.value == b"1"));
        found.iter().map(|x| String::from_utf8_lossy(&x.name).into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_acl_that_the_kernel_does_not_list_is_found() {
        let all = "system.posix_acl_access system.posix_acl_default user.x";
        for listed in [
            &b"user.x\0"[..],
            b"user.x\0system.posix_acl_default\0",
            b"user.x\0system.posix_acl_access\0",
            b"system.posix_acl_default\0user.x\0system.posix_acl_access\0user.gone\0",
        ] {
            assert_eq!(read(false, listed), all);
        }
        // On other file systems the list is complete.
        assert_eq!(read(true, b"user.x\0system.posix_acl_default\0"), "system.posix_acl_default user.x");
    }

    #[test]
    fn a_directory_has_the_acls_that_it_was_given() {
        let directory = tempfile::tempdir().unwrap();
        let file = std::fs::File::open(directory.path()).unwrap();
        // acl(5): version 2, then user::rwx, group::r-x, other::---.
        let acl =
            b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x04\0\x05\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
        let set =
            rustix::fs::fsetxattr(&file, "system.posix_acl_default", acl, rustix::fs::XattrFlags::empty());
        if set == Err(Errno::OPNOTSUPP) {
            return; // This file system knows no ACLs.
        }
        set.unwrap();
        let mut reader = Reader::new();
        for lists_all in [true, false] {
            reader.last = Some((7, lists_all));
            let found = reader.of(&file, 7).unwrap();
            let acls: Vec<_> = found.iter().filter(|xattr| xattr.name.starts_with(b"system.")).collect();
            assert_eq!(acls.len(), 1);
            assert_eq!(acls[0].value, acl);
        }
    }
}
