//! Programs that have a disk or a partition open, and locks on them.
//!
//! Neither prevents another program from opening the device exclusively. As long as a program has an old
//! partition open, the kernel keeps that partition; a program that has the disk open for writing can still
//! write to it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::mountinfo::DeviceNumber;
use super::namespaces::process;

/// A program that has a device open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opener {
    /// The device.
    pub device: DeviceNumber,
    /// Its name and number.
    pub process: String,
    /// Whether it may write.
    pub writes: bool,
}

/// The programs that have one of these devices open, except for this process.
pub fn of(devices: &[DeviceNumber]) -> io::Result<Vec<Opener>> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let number = entry.file_name().to_string_lossy().into_owned();
        if number == own || !number.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        // A process that has ended has nothing open.
        for file in fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
            let Ok(metadata) = fs::metadata(file.path()) else { continue };
            let device = DeviceNumber::of(metadata.rdev());
            if !metadata.file_type().is_block_device() || !devices.contains(&device) {
                continue;
            }
            let info = entry.path().join("fdinfo").join(file.file_name());
            let writes = fs::read_to_string(info).is_ok_and(|info| may_write(&info));
            found.push(Opener { device, process: process(&entry.path(), &number), writes });
        }
    }
    Ok(found)
}

/// `flags:` of proc_pid_fdinfo(5), in octal.
fn may_write(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| libc::c_int::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

/// Whether another program holds a lock (fcntl_locking(2)) anywhere on the file, and its process if the lock
/// belongs to one. Virtual machines lock their disks this way, devices as well as image files.
pub fn locked(file: &File) -> io::Result<Option<String>> {
    let mut lock = libc::flock {
        l_type: libc::c_short::try_from(libc::F_WRLCK).unwrap_or_default(),
        l_whence: libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    if libc::c_int::from(lock.l_type) == libc::F_UNLCK {
        return Ok(None);
    }
    // A lock of an open file description belongs to no process: several may share it.
    Ok(Some(match lock.l_pid {
        number if number > 0 => process(&Path::new("/proc").join(number.to_string()), &number.to_string()),
        _ => "another program, such as a virtual machine".to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_write_is_in_the_flags() {
        for (info, writes) in [
            ("pos:\t0\nflags:\t0100000\nmnt_id:\t1\n", false),
            ("pos:\t0\nflags:\t0100001\n", true),
            ("pos:\t0\nflags:\t0100002\n", true),
            ("", false),
        ] {
            assert_eq!(may_write(info), writes, "{info}");
        }
    }

    #[test]
    fn a_lock_of_another_open_file_is_seen() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let other = File::options().read(true).write(true).open(file.path()).unwrap();
        assert_eq!(locked(&other).unwrap(), None);
        // As QEMU does: a shared lock on one byte.
        let lock = libc::flock {
            l_type: libc::c_short::try_from(libc::F_RDLCK).unwrap(),
            l_whence: 0,
            l_start: 201,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(file.as_file(), FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        assert!(locked(&other).unwrap().unwrap().contains("another program"));
        assert_eq!(locked(file.as_file()).unwrap(), None, "one's own");
    }
}
