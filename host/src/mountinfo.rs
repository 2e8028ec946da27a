//! The mount table: `/proc/self/mountinfo`, as documented in proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount in this process's mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number in this mount namespace, as in `statx(2)`.
    pub id: u64,
    /// The device number of the mounted files, as in `st_dev` and sysfs.
    pub device: DeviceNumber,
    /// The mounted directory of the file system: `/`, except for bind mounts and subvolumes.
    pub root: PathBuf,
    /// The mount point.
    pub mount_point: PathBuf,
    /// The file system type (`ext4`, `proc`).
    pub kind: String,
    /// The source: a device path, if the file system has a device.
    pub source: PathBuf,
    /// Whether the file system itself is read-only, regardless of other mounts of it.
    pub read_only: bool,
    /// The file system's own options, as it lists them: `rw,compress=zstd:3`.
    pub options: String,
}

impl Mount {
    /// The option by which btrfs compresses new data: `compress=zstd:3`, `compress-force=lzo`.
    #[must_use]
    pub fn compress(&self) -> Option<&str> {
        let mut options = self.options.split(',').filter(|_| self.kind == "btrfs");
        options.find(|option| ["compress=", "compress-force="].iter().any(|name| option.starts_with(name)))
    }
}

/// A device number: major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// The device of this driver.
    pub minor: u32,
}

impl DeviceNumber {
    /// Splits a `dev_t`, such as a file's `st_rdev`.
    #[must_use]
    pub fn of(dev: u64) -> Self {
        Self { major: rustix::fs::major(dev), minor: rustix::fs::minor(dev) }
    }

    /// Parses `MAJOR:MINOR`, as mountinfo and sysfs print it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

/// The mounts that this process sees, in the kernel's order.
///
/// # Errors
/// `/proc` is not mounted, or a line is malformed.
pub fn read() -> io::Result<Vec<Mount>> {
    read_from(Path::new("/proc/self/mountinfo"))
}

/// The mounts listed in a file in the kernel's format.
///
/// # Errors
/// The file cannot be read, or a line is malformed.
pub fn read_from(path: &Path) -> io::Result<Vec<Mount>> {
    let text = std::fs::read(path)?;
    parse(&text).map_err(|line| {
        let what = format!("{}: line {line} is not a mount", path.display());
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

/// Parses the text of a mountinfo file.
///
/// # Errors
/// The number of the first malformed line.
pub fn parse(text: &[u8]) -> Result<Vec<Mount>, usize> {
    let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    (1..).zip(lines).map(|(number, line)| parse_line(line).ok_or(number)).collect()
}

/// `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAG…] - TYPE SOURCE SUPEROPTIONS`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    fields.next()?;
    let device = DeviceNumber::parse(std::str::from_utf8(fields.next()?).ok()?)?;
    let root = path(fields.next()?);
    let mount_point = path(fields.next()?);
    fields.find(|field| *field == b"-")?;
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = path(fields.next()?);
    let options = String::from_utf8_lossy(fields.next().unwrap_or_default()).into_owned();
    let read_only = options.split(',').any(|option| option == "ro");
    Some(Mount { id, device, root, mount_point, kind, source, read_only, options })
}

/// Decodes a path in which space, tab, newline and backslash are written as `\` and three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, behind)) = rest.split_first() {
        let escaped = behind.first_chunk::<3>().filter(|_| first == b'\\').and_then(|digits| octal(*digits));
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { behind.get(3..).unwrap_or_default() } else { behind };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn octal(digits: [u8; 3]) -> Option<u8> {
    digits.iter().try_fold(0_u8, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|d| *d < 8)?;
        value.checked_mul(8)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_mounts_with_tags_escapes_and_bind_roots() {
        let text = b"22 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw\n\
            30 22 8:17 /srv/a\\040b /mnt/x\\134y rw - ext4 /dev/sdb1 rw,errors=remount-ro\n";
        let mounts = parse(text).unwrap();
        let [first, second] = mounts.as_slice() else { panic!("{mounts:?}") };
        assert_eq!(first.mount_point, Path::new("/"));
        assert_eq!(first.device, DeviceNumber { major: 254, minor: 0 });
        assert_eq!((first.id, first.read_only, second.read_only), (22, false, false));
        assert_eq!(second.root, Path::new("/srv/a b"));
        assert_eq!(second.mount_point, Path::new("/mnt/x\\y"));
        assert_eq!(second.source, Path::new("/dev/sdb1"));
    }

    #[test]
    fn a_read_only_mount_of_a_writable_file_system_is_told_apart() {
        let text = b"1 0 8:1 / /a ro - ext4 /dev/sda1 rw\n2 0 8:2 / /b rw - ext4 /dev/sda2 ro,x\n";
        let read_only: Vec<bool> = parse(text).unwrap().into_iter().map(|m| m.read_only).collect();
        assert_eq!(read_only, [false, true]);
    }

    #[test]
    fn tells_how_a_btrfs_compresses() {
        let text = b"1 0 0:40 /@ / rw - btrfs /dev/sda1 rw,ssd,compress=zstd:3,subvol=/@\n\
            2 0 0:41 / /a rw - btrfs /dev/sdb1 rw,compress-force=lzo,space_cache=v2\n\
            3 0 0:42 / /b rw - btrfs /dev/sdc1 rw,space_cache=v2\n\
            4 0 0:43 / /c rw - f2fs /dev/sdd1 rw,compress=lzo\n";
        let mounts = parse(text).unwrap();
        let found: Vec<_> = mounts.iter().map(Mount::compress).collect();
        assert_eq!(found, [Some("compress=zstd:3"), Some("compress-force=lzo"), None, None]);
    }

    #[test]
    fn names_the_line_that_is_no_mount() {
        assert_eq!(parse(b"22 1 254:0 / / rw - ext4 /dev/vda rw\nfoo bar\n"), Err(2));
    }

    #[test]
    fn reads_what_the_kernel_says() {
        assert!(read().unwrap().iter().any(|m| m.mount_point == Path::new("/")));
    }
}
