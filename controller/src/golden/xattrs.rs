//! A file's extended attributes.

use ka::archive::Xattr;
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// The kernel's limit of a value, and of a list of names (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const MAX: usize = 64 << 10;

/// Reads extended attributes into buffers that are large enough for any.
pub(in crate::golden) struct Reader {
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Reader {
    pub(in crate::golden) fn new() -> Self {
        Self { names: vec![0; MAX], value: vec![0; MAX] }
    }

    /// The attributes of an open file.
    pub(in crate::golden) fn of(&mut self, file: &OwnedFd) -> rustix::io::Result<Vec<Xattr>> {
        let get = |name: &[u8], value: &mut [u8]| rustix::fs::fgetxattr(file, name, value);
        self.read(|list| rustix::fs::flistxattr(file, list), get)
    }

    /// The attributes by name. One that vanishes meanwhile is none; a file system without any has none.
    pub(super) fn read(
        &mut self,
        list: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>,
        get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
    ) -> rustix::io::Result<Vec<Xattr>> {
        let len = match list(&mut self.names) {
            Err(Errno::OPNOTSUPP) => 0,
            len => len?,
        };
        let mut xattrs = Vec::new();
        let names = self.names.get(..len).unwrap_or_default();
        for name in names.split(|&b| b == 0).filter(|name| !name.is_empty()) {
            let len = match get(name, &mut self.value) {
                Err(Errno::NODATA | Errno::OPNOTSUPP) => continue,
                len => len?,
            };
            let value = self.value.get(..len).unwrap_or_default().to_vec();
            xattrs.push(Xattr { name: name.to_vec(), value });
        }
        xattrs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(xattrs)
    }
}
