//! The directories beneath the golden mounts: the stream has what is mounted there, and they go with the plan.

use super::{PlanError, Planned};
use crate::golden::view::View;
use ka::plan::Covered;
use ka_host::sys::inode;
use ka_host::xattrs::Reader;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::path::Path;

/// Notes in the plan what lies beneath each of its mounts.
pub(super) fn note(planned: &mut Planned) -> Result<(), PlanError> {
    let view = View::open(&planned.sources)?;
    let mut xattrs = Reader::new();
    for fs in planned.plan.storage.file_systems_mut() {
        let covered = fs.mount_points().filter_map(|point| look(&view, point, &mut xattrs).transpose());
        fs.covered = covered.collect::<Result<_, _>>()?;
    }
    Ok(())
}

/// What is beneath a mount point, if a file system that is copied has it.
fn look(view: &View, mount_point: &str, xattrs: &mut Reader) -> Result<Option<Covered>, PlanError> {
    let at = Path::new(mount_point);
    let outer = view.sources().iter().filter(|source| at != source.mount_point);
    let outer = outer.filter_map(|source| Some((source, at.strip_prefix(&source.mount_point).ok()?)));
    let Some((source, below)) = outer.min_by_key(|(_, below)| below.components().count()) else {
        return Ok(None);
    };
    let path = source.directory.join(below);
    let failed = |errno: Errno| PlanError::Read { file: path.clone(), error: errno.into() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(&path, flags, Mode::empty()) {
        // Another one was mounted over it since the plan was begun, or it was reached through a link.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let stat = rustix::fs::fstat(&directory).map_err(failed)?;
    let xattrs = xattrs.of(&directory, stat.st_dev).map_err(failed)?;
    let found =
        inode::read(directory.as_fd()).map_err(|errno| failed(Errno::from_raw_os_error(errno as i32)))?;
    Ok(Some(Covered {
        mount_point: mount_point.to_owned(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default()),
        xattrs: xattrs.into_iter().map(|xattr| (xattr.name, xattr.value)).collect(),
        traits: found.traits,
    }))
}
