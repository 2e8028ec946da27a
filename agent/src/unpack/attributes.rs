//! Owner, extended attributes, mode and times, set in the order in which they last.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use ka::archive::{Entry, Kind, Notes, Time, Xattr, shown};
use ka::notes::NoteKind;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::UnpackError;
use super::tree::Place;

const ACL_ACCESS: &str = "system.posix_acl_access";
const CAPABILITY: &[u8] = b"security.capability";
pub(super) const ACL_DEFAULT: &str = "system.posix_acl_default";

/// What an entry says besides its data.
pub(super) struct Attributes {
    owner: Option<(Uid, Gid)>,
    mode: Mode,
    times: Timestamps,
    xattrs: Vec<Xattr>,
    /// The file may have ACLs that the archive does not give it: from its parent, or from before.
    pub(super) drop_acls: bool,
}

impl Attributes {
    /// Takes the extended attributes out of `entry`.
    pub(super) fn of(entry: &mut Entry, same_owner: bool) -> Self {
        let owner = same_owner.then(|| (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid)));
        let mut mode = Mode::from_raw_mode(entry.mode);
        if !same_owner && entry.kind != Kind::Directory {
            // These bits were meant for another owner.
            mode.remove(Mode::SUID | Mode::SGID);
        }
        let Time { sec, nsec } = entry.mtime;
        let time = Timespec { tv_sec: sec, tv_nsec: nsec.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        Self { owner, mode, times, xattrs: std::mem::take(&mut entry.xattrs), drop_acls: false }
    }

    /// Sets everything on an open file or directory.
    pub(super) fn apply(
        &self,
        fd: BorrowedFd<'_>,
        path: &[u8],
        notes: &mut Notes,
    ) -> Result<(), UnpackError> {
        if let Some((uid, gid)) = self.owner {
            rustix::fs::fchown(fd, Some(uid), Some(gid))
                .map_err(|e| UnpackError::system("set the owner of", path, e))?;
        }
        self.xattrs(
            (fd, path),
            |name, value| rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            |name| rustix::fs::fremovexattr(fd, name),
            notes,
        )?;
        rustix::fs::fchmod(fd, self.mode).map_err(|e| UnpackError::system("set the mode of", path, e))?;
        rustix::fs::futimens(fd, &self.times).map_err(|e| UnpackError::system("set the time of", path, e))
    }

    /// Sets everything but a mode, which a symbolic link has not.
    pub(super) fn apply_to_symlink(&self, place: &Place, notes: &mut Notes) -> Result<(), UnpackError> {
        self.owner_of(place)?;
        // There is no other call by which a symbolic link's attributes can be set beneath an open directory.
        let proc =
            || [fd_path(place.parent.as_fd()).as_bytes(), b"/", place.name().as_encoded_bytes()].concat();
        self.xattrs(
            (place.parent.as_fd(), &place.path),
            |name, value| rustix::fs::lsetxattr(proc(), name, value, XattrFlags::empty()),
            |_| Ok(()),
            notes,
        )?;
        self.time_of(place)
    }

    /// Sets everything on a device or pipe, which must not be opened for that.
    pub(super) fn apply_to_node(&self, place: &Place, notes: &mut Notes) -> Result<(), UnpackError> {
        self.owner_of(place)?;
        let failed = |e| UnpackError::system("set the mode of", &place.path, e);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node = rustix::fs::openat(&place.parent, place.name(), flags, Mode::empty()).map_err(failed)?;
        let proc = fd_path(node.as_fd());
        self.xattrs(
            (place.parent.as_fd(), &place.path),
            |name, value| rustix::fs::setxattr(&proc, name, value, XattrFlags::empty()),
            |name| rustix::fs::removexattr(&proc, name),
            notes,
        )?;
        rustix::fs::chmod(&proc, self.mode).map_err(failed)?;
        self.time_of(place)
    }

    fn owner_of(&self, place: &Place) -> Result<(), UnpackError> {
        let Some((uid, gid)) = self.owner else { return Ok(()) };
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&place.parent, place.name(), Some(uid), Some(gid), flags)
            .map_err(|e| UnpackError::system("set the owner of", &place.path, e))
    }

    fn time_of(&self, place: &Place) -> Result<(), UnpackError> {
        rustix::fs::utimensat(&place.parent, place.name(), &self.times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| UnpackError::system("set the time of", &place.path, e))
    }

    /// Sets the extended attributes; notes those that cannot be had here. `beside` is open on the same file system.
    fn xattrs(
        &self,
        (beside, path): (BorrowedFd<'_>, &[u8]),
        set: impl Fn(&[u8], &[u8]) -> rustix::io::Result<()>,
        remove: impl Fn(&str) -> rustix::io::Result<()>,
        notes: &mut Notes,
    ) -> Result<(), UnpackError> {
        if self.drop_acls {
            for acl in [ACL_ACCESS, ACL_DEFAULT] {
                match remove(acl) {
                    // It had none, its file system knows none, or its kind cannot have any.
                    Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::ACCESS) => {}
                    Err(errno) => return Err(UnpackError::system("remove the ACL of", path, errno)),
                }
            }
        }
        let mut lost = |name, why: &str| {
            notes.push(
                NoteKind::AttributeLost,
                path,
                format!("the attribute {} is left out: {why}", shown(name)),
            );
        };
        for Xattr { name, value } in &self.xattrs {
            match set(name, value) {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP) => lost(name, "its file system cannot hold it"),
                Err(Errno::PERM) if self.owner.is_none() => {
                    lost(name, "it takes root to set it");
                }
                // ext4 has a block for all of a file's attributes, and calls that full as well. A program without its
                // capabilities does not work, so that these are no matter of a note.
                Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE)
                    if name != CAPABILITY && rustix::fs::fstatvfs(beside).is_ok_and(|fs| fs.f_bavail > 0) =>
                {
                    lost(name, "its file system holds no attributes that large");
                }
                Err(errno) => return Err(UnpackError::system("set an extended attribute of", path, errno)),
            }
        }
        Ok(())
    }
}

fn fd_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
