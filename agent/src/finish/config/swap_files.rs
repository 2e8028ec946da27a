//! Recreates swap files at the places that fstab and units name.
//!
//! swapon(8) rejects files with holes, and nearly every swap file arrives with some: space that is allocated
//! and never written is a hole in the stream. So each file is emptied and allocated again, keeping its inode,
//! mode, owner and attributes. Its first page, written by mkswap(8), stays with UUID and label. The rest was
//! the golden node's memory, and is dropped.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, IFlags};
use rustix::io::Errno;

use crate::finish::config::fstab;
use crate::finish::error::Cause;
use crate::finish::tool;
use ka_host::system::glob;

/// The size of the page that mkswap writes; x86 has no other.
const PAGE: usize = 4096;

/// The signature at its end.
const SIGNATURE: &[u8] = b"SWAPSPACE2";

/// The statfs(2) types of btrfs and XFS.
const BTRFS: u64 = 0x9123_683e;
const XFS: u64 = 0x5846_5342;

/// Recreates the swap files that the fstab and the units below `root` name; `root` is the process's root.
pub(in crate::finish) fn renew(root: &Path) -> Result<(), Cause> {
    let mut named = fstab::swap_files(root)?;
    named.extend(of_units(root)?);
    named.sort();
    named.dedup();
    for name in named {
        let path = root.join(name.trim_start_matches('/'));
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => renew_one(&path, metadata.len())?,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                warning!("{name} is swap space, and is not there");
            }
            Err(e) => return Err(Cause::file("look at", &path, e)),
        }
    }
    Ok(())
}

/// The files that systemd units name as swap space.
fn of_units(root: &Path) -> Result<Vec<String>, Cause> {
    let mut found = Vec::new();
    for path in glob::files(root, "etc/systemd/system/*.swap")? {
        let text = fs::read(&path).map_err(|e| Cause::file("read", &path, e))?;
        let text = String::from_utf8_lossy(&text);
        let values = text.lines().filter_map(|line| line.trim().strip_prefix("What="));
        let files = values.map(str::trim).filter(|what| what.starts_with('/') && !what.starts_with("/dev/"));
        found.extend(files.map(str::to_owned));
    }
    Ok(found)
}

fn renew_one(path: &Path, length: u64) -> Result<(), Cause> {
    let failed = |action| move |e| Cause::file(action, path, e);
    let file = File::options().read(true).write(true).open(path).map_err(failed("open"))?;
    let modified = file.metadata().and_then(|metadata| metadata.modified()).map_err(failed("look at"))?;
    let mut first = [0; PAGE];
    let has_first = length >= PAGE as u64;
    if has_first {
        file.read_exact_at(&mut first, 0).map_err(failed("read"))?;
    }
    file.set_len(0).map_err(failed("empty"))?;
    forbid_copy_on_write(&file).map_err(failed("make without copy-on-write"))?;
    allocate(&file, length).map_err(failed("allocate"))?;
    if first.ends_with(SIGNATURE) {
        file.write_all_at(&first, 0).map_err(failed("write"))?;
    } else if has_first {
        // The state of a hibernated machine. The file must be complete before another program sees it.
        tool::run(tool::need(&["mkswap"])?, &[&path.to_string_lossy()])?;
    }
    file.set_modified(modified).map_err(failed("set the time of"))?;
    file.sync_all().map_err(failed("write out"))?;
    log::info!("{}: swap space of {length} bytes", path.display());
    Ok(())
}

/// btrfs swaps only to such files (btrfs(5)), and sets this flag only on empty ones.
fn forbid_copy_on_write(file: &File) -> io::Result<()> {
    if kind_of(file)? != BTRFS {
        return Ok(());
    }
    let flags = rustix::fs::ioctl_getflags(file)?;
    Ok(rustix::fs::ioctl_setflags(file, (flags | IFlags::NOCOW) - IFlags::COMPRESSED)?)
}

fn allocate(file: &File, length: u64) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    if kind_of(file)? != XFS || swaps_to_unwritten(&fs::read_to_string("/proc/sys/kernel/osrelease")?) {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            done => return Ok(done?),
        }
    }
    let zeros = vec![0; 1 << 20];
    let (mut file, mut left) = (file, length);
    while left > 0 {
        let step = usize::try_from(left).map_or(zeros.len(), |left| left.min(zeros.len()));
        file.write_all(zeros.get(..step).unwrap_or_default())?;
        left -= step as u64;
    }
    Ok(())
}

/// Whether this Linux can swap to XFS files that are allocated and not written, according to swapon(8): since
/// 4.18.
fn swaps_to_unwritten(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (4, 18)
}

fn kind_of(file: &File) -> io::Result<u64> {
    // The kernel's numbers have 32 bits, in a signed field.
    Ok(u64::from_ne_bytes(rustix::fs::fstatfs(file)?.f_type.to_ne_bytes()) & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn a_swap_file_has_no_holes_and_nothing_of_the_golden_nodes() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let fstab =
            "/swap\\040file none swap sw 0 0\n# /other none swap\n/missing none swap sw\n/dir none swap sw\n";
        fs::write(root.path().join("etc/fstab"), fstab).unwrap();
        fs::create_dir_all(root.path().join("etc/systemd/system")).unwrap();
        let unit = root.path().join("etc/systemd/system/unit.swap");
        fs::write(unit, "[Swap]\nWhat=/unit\n").unwrap();
        fs::create_dir(root.path().join("dir")).unwrap();
        let (path, other) = (root.path().join("swap file"), root.path().join("other"));
        let by_unit = root.path().join("unit");
        for path in [&path, &other, &by_unit] {
            let file = File::create(path).unwrap();
            file.set_len(1 << 20).unwrap();
            file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
        }
        tool::run("mkswap", &["-q", "-L", "spare", &path.to_string_lossy()]).expect("mkswap is needed");
        let file = File::options().read(true).write(true).open(&path).unwrap();
        file.write_all_at(b"secret", 500_000).unwrap();
        let mut first = [0; PAGE];
        file.read_exact_at(&mut first, 0).unwrap();
        let before = fs::metadata(&path).unwrap();

        renew(root.path()).unwrap();

        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.len(), after.mode(), after.mtime()), (before.len(), before.mode(), before.mtime()));
        assert!(after.blocks() * 512 >= 1 << 20, "it has holes");
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes[..PAGE], first);
        assert!(bytes[PAGE..].iter().all(|byte| *byte == 0));
        assert_eq!(fs::metadata(&other).unwrap().blocks(), 0, "no swap space by fstab");
        assert!(fs::metadata(&by_unit).unwrap().blocks() * 512 >= 1 << 20, "a unit names it");

        file.write_all_at(b"S1SUSPEND\0", 4086).unwrap();
        renew(root.path()).unwrap();
        assert!(fs::read(&path).unwrap()[..PAGE].ends_with(SIGNATURE));
    }

    #[test]
    fn old_kernels_are_known() {
        for (release, able) in
            [("4.18.0-553.el8", true), ("6.1.0-18-amd64", true), ("3.10.0-1160.el7", false), ("4.9.0", false)]
        {
            assert_eq!(swaps_to_unwritten(release), able, "{release}");
        }
    }
}
