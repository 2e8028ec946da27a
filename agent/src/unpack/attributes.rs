//! Sets owner, extended attributes, mode, times and flags, in an order in which none undoes another.
//!
//! A change of owner removes capabilities, an ACL changes the mode, and `security.evm` is a seal over owner,
//! mode and the other attributes, so it is set last.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use ka::archive::{Entry, Flags, Kind, Notes, Time, Traits, Xattr, shown};
use ka::notes::NoteKind;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::UnpackError;
use super::traits;
use super::tree::{ACL_DEFAULT, PathAt};

const ACL_ACCESS: &str = "system.posix_acl_access";
const COMPRESSION: &[u8] = b"btrfs.compression";
const CAPABILITY: &[u8] = b"security.capability";
/// The attributes that authenticate the rest of the file.
const SEALS: [&[u8]; 2] = [b"security.ima", b"security.evm"];

/// The metadata of an entry.
pub(super) struct Attributes {
    owner: Option<(Uid, Gid)>,
    mode: Mode,
    times: Timestamps,
    xattrs: Arc<Vec<Xattr>>,
    /// The attributes set last, which cover the final mode and owner.
    seals: Arc<Vec<Xattr>>,
    traits: Traits,
    /// Every failure is noted rather than returned.
    tolerant: bool,
    /// The file may have flags that the archive does not give it: from its parent, or from an earlier entry.
    pub(super) exact: bool,
    /// The file may have ACLs that the archive does not give it: from its parent, or from an earlier entry.
    pub(super) drop_acls: bool,
}

impl Attributes {
    /// The data's modification time in the archive, in seconds.
    pub(super) fn changed(&self) -> i64 {
        self.times.last_modification.tv_sec
    }

    /// Takes the extended attributes out of `entry`.
    pub(super) fn of(entry: &mut Entry, same_owner: bool, tolerant: bool) -> Self {
        let owner = same_owner.then(|| (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid)));
        let mut mode = Mode::from_raw_mode(entry.mode);
        if !same_owner && entry.kind != Kind::Directory {
            // These bits were meant for another owner.
            mode.remove(Mode::SUID | Mode::SGID);
        }
        let Time { sec, nsec } = entry.mtime;
        let time = Timespec { tv_sec: sec, tv_nsec: nsec.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        let (xattrs, seals) = in_order(std::mem::take(&mut entry.xattrs));
        let (xattrs, seals, traits) = (Arc::new(xattrs), Arc::new(seals), entry.traits);
        Self { owner, mode, times, xattrs, seals, traits, tolerant, exact: false, drop_acls: false }
    }

    /// The lists of extended attributes, for callers that keep many of them.
    pub(super) fn lists(&mut self) -> [&mut Arc<Vec<Xattr>>; 2] {
        [&mut self.xattrs, &mut self.seals]
    }

    /// `+i` and `+a`, if the entry has them.
    pub(super) fn seal(&self) -> Flags {
        self.traits.flags.and(traits::LAST)
    }

    /// Sets what must be set while the file or directory is empty.
    pub(super) fn begin(&self, fd: BorrowedFd<'_>, is_directory: bool) {
        if !self.exact && self.traits == Traits::default() {
            return;
        }
        traits::begin(fd, &self.traits, is_directory);
        // The kernel compresses everything written from now on. Failures are noted later.
        if let Some(Xattr { name, value }) = self.xattrs.iter().find(|xattr| xattr.name == COMPRESSION) {
            let _ = rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty());
        }
    }

    /// Sets everything on an open file or directory.
    pub(super) fn apply(
        &self,
        fd: BorrowedFd<'_>,
        path: &[u8],
        notes: &mut Notes,
    ) -> Result<(), UnpackError> {
        if let Some((uid, gid)) = self.owner {
            let set = rustix::fs::fchown(fd, Some(uid), Some(gid));
            self.unless_here(set, "set the owner of", path, notes)?;
        }
        let set = |name: &[u8], value: &[u8]| rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty());
        self.drop_acls(|name| rustix::fs::fremovexattr(fd, name), path)?;
        self.xattrs((fd, path), &self.xattrs, set, notes)?;
        self.unless_here(rustix::fs::fchmod(fd, self.mode), "set the mode of", path, notes)?;
        self.xattrs((fd, path), &self.seals, set, notes)?;
        let set = rustix::fs::futimens(fd, &self.times);
        self.unless_here(set, "set the time of", path, notes)?;
        self.check_time(rustix::fs::fstat(fd), path, notes);
        if self.exact || self.traits != Traits::default() {
            traits::set(fd, path, &self.traits, notes);
        }
        Ok(())
    }

    /// Sets everything except the mode, which a symbolic link does not have.
    pub(super) fn apply_to_symlink(&self, place: &PathAt, notes: &mut Notes) -> Result<(), UnpackError> {
        self.owner_of(place, notes)?;
        // No other call can set a symbolic link's attributes relative to an open directory.
        let proc =
            || [fd_path(place.parent.as_fd()).as_bytes(), b"/", place.name().as_encoded_bytes()].concat();
        let set = |name: &[u8], value: &[u8]| rustix::fs::lsetxattr(proc(), name, value, XattrFlags::empty());
        self.xattrs((place.parent.as_fd(), &place.path), &self.xattrs, set, notes)?;
        self.xattrs((place.parent.as_fd(), &place.path), &self.seals, set, notes)?;
        self.time_of(place, notes)
    }

    /// Sets everything on a device or pipe, which must not be opened.
    pub(super) fn apply_to_node(&self, place: &PathAt, notes: &mut Notes) -> Result<(), UnpackError> {
        self.owner_of(place, notes)?;
        let failed = |e| UnpackError::system("set the mode of", &place.path, e);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node = rustix::fs::openat(&place.parent, place.name(), flags, Mode::empty()).map_err(failed)?;
        let proc = fd_path(node.as_fd());
        let set = |name: &[u8], value: &[u8]| rustix::fs::setxattr(&proc, name, value, XattrFlags::empty());
        self.drop_acls(|name| rustix::fs::removexattr(&proc, name), &place.path)?;
        self.xattrs((place.parent.as_fd(), &place.path), &self.xattrs, set, notes)?;
        self.unless_here(rustix::fs::chmod(&proc, self.mode), "set the mode of", &place.path, notes)?;
        self.xattrs((place.parent.as_fd(), &place.path), &self.seals, set, notes)?;
        self.time_of(place, notes)
    }

    fn owner_of(&self, place: &PathAt, notes: &mut Notes) -> Result<(), UnpackError> {
        let Some((uid, gid)) = self.owner else { return Ok(()) };
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let set = rustix::fs::chownat(&place.parent, place.name(), Some(uid), Some(gid), flags);
        self.unless_here(set, "set the owner of", &place.path, notes)
    }

    fn time_of(&self, place: &PathAt, notes: &mut Notes) -> Result<(), UnpackError> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let set = rustix::fs::utimensat(&place.parent, place.name(), &self.times, flags);
        self.unless_here(set, "set the time of", &place.path, notes)?;
        self.check_time(rustix::fs::statat(&place.parent, place.name(), flags), &place.path, notes);
        Ok(())
    }

    /// Notes what this file system cannot store, if notes are allowed.
    fn unless_here(
        &self,
        set: rustix::io::Result<()>,
        action: &'static str,
        path: &[u8],
        notes: &mut Notes,
    ) -> Result<(), UnpackError> {
        match set {
            Err(errno @ (Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP | Errno::OVERFLOW))
                if self.tolerant =>
            {
                notes.push(NoteKind::AttributeLost, path, format!("cannot {action} it: {errno}"));
                Ok(())
            }
            set => set.map_err(|errno| UnpackError::system(action, path, errno)),
        }
    }

    /// The kernel accepts any time and stores the nearest one that the file system can hold.
    fn check_time(&self, kept: rustix::io::Result<Stat>, path: &[u8], notes: &mut Notes) {
        let Timespec { tv_sec, tv_nsec } = self.times.last_modification;
        let Ok(kept) = kept else { return };
        if kept.st_mtime != tv_sec {
            let what = format!("its time is {} s instead of {tv_sec} s since 1970", kept.st_mtime);
            notes.push(
                NoteKind::TimeLost,
                path,
                format!(
                    "{what}: its file system cannot store the original \
                time"
                ),
            );
        } else if u64::try_from(tv_nsec).is_ok_and(|wanted| wanted != kept.st_mtime_nsec) {
            notes.push(
                NoteKind::TimeLost,
                path,
                "its file system cannot store the fraction of a second in its time",
            );
        }
    }

    fn drop_acls(
        &self,
        remove: impl Fn(&str) -> rustix::io::Result<()>,
        path: &[u8],
    ) -> Result<(), UnpackError> {
        if self.drop_acls {
            for acl in [ACL_ACCESS, ACL_DEFAULT] {
                match remove(acl) {
                    // There was none, or the file system or the kind of file does not support them.
                    Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::ACCESS) => {}
                    Err(errno) => return Err(UnpackError::system("remove the ACL of", path, errno)),
                }
            }
        }
        Ok(())
    }

    /// Sets extended attributes and notes those that cannot be stored. `beside` is open on the same file
    /// system.
    fn xattrs(
        &self,
        (beside, path): (BorrowedFd<'_>, &[u8]),
        xattrs: &[Xattr],
        set: impl Fn(&[u8], &[u8]) -> rustix::io::Result<()>,
        notes: &mut Notes,
    ) -> Result<(), UnpackError> {
        let mut lost = |name, why: &str| {
            notes.push(
                NoteKind::AttributeLost,
                path,
                format!("the attribute {} is left out: {why}", shown(name)),
            );
        };
        for Xattr { name, value } in xattrs {
            match set(name, value) {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP) => lost(name, "its file system cannot hold it"),
                Err(Errno::PERM) if self.owner.is_none() => {
                    lost(name, "only root can set it");
                }
                // A kernel that maintains EVM's HMAC itself accepts only signatures.
                Err(Errno::PERM | Errno::INVAL) if SEALS.contains(&name.as_slice()) => {
                    lost(name, "this kernel does not allow it to be set");
                }
                Err(Errno::PERM | Errno::INVAL) if self.tolerant && name != CAPABILITY => {
                    lost(name, "its file system cannot hold it");
                }
                // ext4 has one block for all of a file's attributes and reports a full one as ENOSPC too. A
                // program does not work without its capabilities, so a missing one is an error and not a
                // note.
                Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE)
                    if name != CAPABILITY && rustix::fs::fstatvfs(beside).is_ok_and(|fs| fs.f_bavail > 0) =>
                {
                    lost(name, "it is too large for its file system");
                }
                Err(errno) => return Err(UnpackError::system("set an extended attribute of", path, errno)),
            }
        }
        Ok(())
    }
}

/// The attributes in the order in which they are set, and separately those that authenticate all others.
fn in_order(mut xattrs: Vec<Xattr>) -> (Vec<Xattr>, Vec<Xattr>) {
    let seal = |xattr: &Xattr| SEALS.iter().position(|name| xattr.name == *name);
    let mut seals: Vec<_> = xattrs.extract_if(.., |xattr| seal(xattr).is_some()).collect();
    seals.sort_by_key(seal);
    xattrs.sort_by_key(|xattr| xattr.name == CAPABILITY);
    (xattrs, seals)
}

fn fd_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vouches_for_the_rest_comes_last() {
        let names = [
            "security.evm",
            "security.capability",
            "security.ima",
            "security.selinux",
            "system.posix_acl_access",
            "user.x",
        ];
        let xattrs = names.map(|name| Xattr { name: name.into(), value: Vec::new() });
        let (first, last) = in_order(xattrs.to_vec());
        let names = |xattrs: &[Xattr]| xattrs.iter().map(|x| shown(&x.name)).collect::<Vec<_>>().join(" ");
        assert_eq!(names(&first), "security.selinux system.posix_acl_access user.x security.capability");
        assert_eq!(names(&last), "security.ima security.evm");
    }
}
