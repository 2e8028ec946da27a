//! Whether a disk may be written: it is there, it is a local disk, and nobody uses it.
//!
//! A claimed disk stays locked with `flock` until the claim is dropped, so that two runs, or a run and
//! udev, don't work on it at once. Only while the table is written is it opened exclusively too: an
//! exclusive open of a whole disk makes mkfs and mount on its partitions fail with EBUSY.

use super::sysfs::{self, Usage};
use super::wait::retry;
use crate::sys::block;
use ka::disk::units::{BadSectorSize, DiskSize, SectorSize};
use rustix::fs::{FlockOperation, OFlags};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long another's lock is waited for: udev holds one while it looks at a disk, and a process that
/// another thread started holds copies of all open files until it runs its program.
const LOCKED: Duration = Duration::from_secs(3);

/// Of NVMe, as the kernel's drivers name them; the others are `tcp`, `rdma`, `fc` and `loop`.
const LOCAL_TRANSPORTS: [&str; 2] = ["pcie", "apple-nvme"];

/// A disk that may be written, locked until this is dropped.
#[derive(Debug)]
pub struct Claim {
    /// The kernel's name, such as `sda`.
    pub name: String,
    /// The device node.
    pub node: PathBuf,
    /// How large it is.
    pub size: DiskSize,
    lock: File,
}

/// Why a disk may not be written. Nothing was.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such disk.
    #[error("{target}: this machine has no such disk; it has {present}")]
    Missing {
        /// What was asked for.
        target: String,
        /// The disks that are there.
        present: String,
    },
    /// A partition, or something else than a disk.
    #[error("{target} is {what}, not a whole local disk; nothing was written")]
    NotADisk {
        /// What was asked for.
        target: String,
        /// What it is.
        what: &'static str,
    },
    /// Its media can be taken out.
    #[error("{0} is a removable medium; nothing was written")]
    Removable(String),
    /// It can't be written.
    #[error("{0} is read-only; nothing was written")]
    ReadOnly(String),
    /// It is in use.
    #[error("{disk} is in use: {usage}; nothing was written")]
    InUse {
        /// The disk's name.
        disk: String,
        /// By whom.
        usage: Usage,
    },
    /// The kernel says that somebody has it for himself, and doesn't say who.
    #[error("{0} is in use: another program or mount namespace has it open exclusively; nothing was written")]
    Exclusive(String),
    /// Another run, or udev, works on it.
    #[error("{0} is locked by another program; nothing was written")]
    Locked(String),
    /// Its sectors have a size that no disk has.
    #[error("{disk}: {reason}; nothing was written")]
    Sectors {
        /// The disk's name.
        disk: String,
        /// The size.
        reason: BadSectorSize,
    },
    /// The kernel doesn't answer.
    #[error("{disk}: can't {doing}: {source}; nothing was written")]
    Io {
        /// The disk's name.
        disk: String,
        /// What was to be done, as in "can't …".
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Claims the disk with a kernel name or path.
///
/// # Errors
/// The reason why it may not be written.
pub fn claim(target: &str) -> Result<Claim, Refusal> {
    let name = find(target)?;
    check_kind(target, &name)?;
    let node = Path::new("/dev").join(&name);
    let lock = lock(&name, &node)?;
    let size = measure(&name, &lock)?;
    check_flags(&name)?;
    let claim = Claim { name, node, size, lock };
    claim.check_unused()?;
    Ok(claim)
}

impl Claim {
    /// Opens the disk exclusively: the last look at whether somebody uses it. To be dropped before
    /// anything is done with its partitions.
    ///
    /// # Errors
    /// Somebody uses the disk.
    pub(super) fn open_exclusive(&self) -> Result<File, Refusal> {
        self.check_unused()?;
        let is_busy = |e: &io::Error| e.kind() == io::ErrorKind::ResourceBusy;
        retry(LOCKED, || open_exclusive(&self.node, true), is_busy).map_err(|e| match e.kind() {
            io::ErrorKind::ResourceBusy => Refusal::Exclusive(self.name.clone()),
            _ => Refusal::Io { disk: self.name.clone(), doing: "open it exclusively", source: e },
        })
    }

    /// The disk, open for reading and writing and locked.
    pub(super) fn file(&self) -> &File {
        &self.lock
    }

    fn check_unused(&self) -> Result<(), Refusal> {
        match sysfs::usage(&self.name).map_err(|e| io_refusal(&self.name, "find out who uses it", e))? {
            Some(usage) => Err(Refusal::InUse { disk: self.name.clone(), usage }),
            None => Ok(()),
        }
    }
}

/// Opens a block device as a file system or a RAID would: nobody else can at the same time.
pub(super) fn open_exclusive(node: &Path, write: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(write).custom_flags(OFlags::EXCL.bits().cast_signed()).open(node)
}

/// The kernel's name of the block device that a name or path means.
fn find(target: &str) -> Result<String, Refusal> {
    let path = Path::new("/dev").join(target);
    let missing = || Refusal::Missing { target: target.to_owned(), present: present() };
    if !path.exists() {
        return Err(missing());
    }
    let number = sysfs::block_number(&path)
        .ok_or_else(|| Refusal::NotADisk { target: target.to_owned(), what: "no block device" })?;
    // A node that outlived its device.
    sysfs::name_of(number).map_err(|_| missing())
}

/// The disks of this machine with their sizes, for a message.
fn present() -> String {
    let names = sysfs::disks().unwrap_or_default();
    if names.is_empty() { "no disk at all".to_owned() } else { names.join(", ") }
}

/// Only kinds of disks that are known to be local and whole are written to.
fn check_kind(target: &str, name: &str) -> Result<(), Refusal> {
    match kind_fault(Path::new("/sys"), name) {
        Ok(None) => Ok(()),
        Ok(Some(what)) => Err(Refusal::NotADisk { target: target.to_owned(), what }),
        Err(e) => Err(io_refusal(name, "look it up in /sys", e)),
    }
}

/// What a device is that is not a whole local disk.
fn kind_fault(sys: &Path, name: &str) -> io::Result<Option<&'static str>> {
    let path = fs::canonicalize(sys.join("class/block").join(name))?;
    if path.join("partition").exists() {
        return Ok(Some("a partition"));
    }
    if !is_local_disk(name) {
        return Ok(Some("a device of a kind that ka doesn't write to"));
    }
    let on_a_network = |part: &std::ffi::OsStr| {
        // As the kernel names ports of Fibre Channel and sessions of iSCSI.
        let part = part.to_string_lossy();
        part.starts_with("rport-") || sysfs::is_numbered(&part, "session")
    };
    if path.iter().any(on_a_network) || (name.starts_with("nvme") && !nvme_is_local(&path)?) {
        return Ok(Some("a disk in a storage network"));
    }
    Ok(None)
}

/// Whether every way to an NVMe namespace stays in this machine, and there is one.
///
/// A namespace lies in sysfs below its controller, or, where several controllers may lead to it, below a
/// subsystem which has a link to each of them. A controller tells its transport.
fn nvme_is_local(namespace: &Path) -> io::Result<bool> {
    let above = namespace.parent().unwrap_or(namespace);
    let mut controllers = Vec::new();
    if above.join("transport").exists() {
        controllers.push(above.to_owned());
    } else {
        for entry in fs::read_dir(above)? {
            let entry = entry?;
            if sysfs::is_numbered(&entry.file_name().to_string_lossy(), "nvme") {
                controllers.push(entry.path());
            }
        }
    }
    for controller in &controllers {
        let transport = fs::read_to_string(controller.join("transport"))?;
        if !LOCAL_TRANSPORTS.contains(&transport.trim_end()) {
            return Ok(false);
        }
    }
    Ok(!controllers.is_empty())
}

/// `sda`, `hda`, `vda`, `xvda`, `nvme0n1`, `mmcblk0` (but not its boot areas), `loop0`.
fn is_local_disk(name: &str) -> bool {
    let lettered = ["sd", "hd", "vd", "xvd"].iter().any(|kind| {
        name.strip_prefix(kind)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase()))
    });
    let nvme = name
        .rsplit_once('n')
        .is_some_and(|(controller, n)| sysfs::is_numbered(controller, "nvme") && sysfs::is_numbered(n, ""));
    lettered || nvme || sysfs::is_numbered(name, "mmcblk") || sysfs::is_numbered(name, "loop")
}

fn lock(name: &str, node: &Path) -> Result<File, Refusal> {
    let file = OpenOptions::new().read(true).write(true).open(node).map_err(|e| match e.raw_os_error() {
        Some(code) if code == rustix::io::Errno::ROFS.raw_os_error() => Refusal::ReadOnly(name.to_owned()),
        _ => io_refusal(name, "open it", e),
    })?;
    let lock = || rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    match retry(LOCKED, lock, |e| *e == rustix::io::Errno::WOULDBLOCK) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Refusal::Locked(name.to_owned())),
        Err(e) => Err(io_refusal(name, "lock it", e.into())),
    }
}

fn measure(name: &str, file: &File) -> Result<DiskSize, Refusal> {
    let bytes = block::size(file).map_err(|e| io_refusal(name, "get its size", e.into()))?;
    let sector = block::sector_size(file).map_err(|e| io_refusal(name, "get its sector size", e.into()))?;
    let sector =
        SectorSize::try_from(sector).map_err(|reason| Refusal::Sectors { disk: name.to_owned(), reason })?;
    Ok(DiskSize::of_bytes(bytes, sector))
}

fn check_flags(name: &str) -> Result<(), Refusal> {
    let flag = |attribute| {
        sysfs::attribute(name, attribute)
            .map(|text| text != "0")
            .map_err(|e| io_refusal(name, "look it up in /sys", e))
    };
    if flag("removable")? {
        return Err(Refusal::Removable(name.to_owned()));
    }
    if flag("ro")? {
        return Err(Refusal::ReadOnly(name.to_owned()));
    }
    Ok(())
}

fn io_refusal(disk: &str, doing: &'static str, source: io::Error) -> Refusal {
    Refusal::Io { disk: disk.to_owned(), doing, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn knows_whole_local_disks_by_name() {
        for name in ["sda", "sdaa", "hdb", "vda", "xvda", "nvme0n1", "nvme10n12", "mmcblk0", "loop7"] {
            assert!(is_local_disk(name), "{name}");
        }
        for name in [
            "sda1",
            "sd",
            "nvme0",
            "nvme0n",
            "nvme0c0n1p1",
            "mmcblk0boot0",
            "dm-0",
            "md0",
            "nbd0",
            "sr0",
            "zram0",
        ] {
            assert!(!is_local_disk(name), "{name}");
        }
    }

    /// A `/sys` with a block device at a path below `devices`, and files and links beside it.
    fn kind_in(
        device: &str,
        files: &[(&str, &str)],
        links: &[(&str, &str)],
    ) -> io::Result<Option<&'static str>> {
        let sys = tempfile::tempdir().unwrap();
        let devices = sys.path().join("devices");
        let class = sys.path().join("class/block");
        fs::create_dir_all(devices.join(device)).unwrap();
        fs::create_dir_all(&class).unwrap();
        for (path, text) in files {
            let path = devices.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        for (link, to) in links {
            symlink(devices.join(to), devices.join(link)).unwrap();
        }
        let name = Path::new(device).file_name().unwrap();
        symlink(devices.join(device), class.join(name)).unwrap();
        kind_fault(sys.path(), name.to_str().unwrap())
    }

    #[test]
    fn a_disk_in_a_storage_network_is_told_from_a_local_one() {
        const NETWORK: Option<&str> = Some("a disk in a storage network");
        let pci = "pci0000:00/0000:00:04.0";
        for (device, is) in [
            (format!("{pci}/ata1/host0/target0:0:0/0:0:0:0/block/sda"), None),
            ("platform/host3/session1/target3:0:0/3:0:0:1/block/sdb".to_owned(), NETWORK),
            (format!("{pci}/host1/rport-1:0-0/target1:0:0/1:0:0:0/block/sdc"), NETWORK),
            ("virtual/block/dm-0".to_owned(), Some("a device of a kind that ka doesn't write to")),
        ] {
            assert_eq!(kind_in(&device, &[], &[]).unwrap(), is, "{device}");
        }
        let sda1 = format!("{pci}/block/sda/sda1");
        let partition = format!("{sda1}/partition");
        assert_eq!(kind_in(&sda1, &[(&partition, "1\n")], &[]).unwrap(), Some("a partition"));
    }

    #[test]
    fn a_namespace_over_fabrics_is_no_local_disk() {
        const NETWORK: Option<&str> = Some("a disk in a storage network");
        for (transport, is) in [
            ("pcie\n", None),
            ("apple-nvme\n", None),
            ("tcp\n", NETWORK),
            ("rdma\n", NETWORK),
            ("fc\n", NETWORK),
            ("loop\n", NETWORK),
        ] {
            let below = kind_in("ctl/nvme0/nvme0n1", &[("ctl/nvme0/transport", transport)], &[]);
            assert_eq!(below.unwrap(), is, "{transport}");
            // Two controllers, of which the first is local; the namespace's path `nvme1c0n1` is no controller.
            let shared = kind_in(
                "virtual/nvme-subsystem/nvme-subsys1/nvme1n1",
                &[
                    ("pci/nvme/nvme0/transport", "pcie\n"),
                    ("ctl/nvme1/transport", transport),
                    ("virtual/nvme-subsystem/nvme-subsys1/subsystype", "nvm\n"),
                ],
                &[
                    ("virtual/nvme-subsystem/nvme-subsys1/nvme0", "pci/nvme/nvme0"),
                    ("virtual/nvme-subsystem/nvme-subsys1/nvme1", "ctl/nvme1"),
                ],
            );
            assert_eq!(shared.unwrap(), is, "{transport}");
        }
        // No controller at all: nobody knows where it is.
        assert_eq!(kind_in("virtual/nvme-subsystem/nvme-subsys2/nvme2n1", &[], &[]).unwrap(), NETWORK);
        let unknown = kind_in("s/nvme3n1", &[("c/nvme3/state", "live\n")], &[("s/nvme3", "c/nvme3")]);
        assert_eq!(unknown.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_missing_disk_is_told_with_those_that_are_there() {
        let refusal = claim("sdzzz").unwrap_err();
        assert!(matches!(refusal, Refusal::Missing { .. }), "{refusal}");
        assert!(refusal.to_string().contains("this machine has no such disk"), "{refusal}");
    }
}
