//! How a disk is attached, and whether it is a whole disk that belongs to this machine alone.

use super::sysfs::is_numbered;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

/// NVMe transports by the names of the kernel's drivers; the others are `tcp`, `rdma`, `fc` and `loop`.
const LOCAL_TRANSPORTS: [&str; 2] = ["pcie", "apple-nvme"];

/// The kind of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A whole disk.
    Disk {
        /// `ata`, `scsi`, `usb`, `firewire`, `nvme`, `virtio`, `mmc`, `xen`, `loop`.
        bus: &'static str,
        /// The disk is in a storage network, or its location is unknown.
        network: bool,
    },
    /// A partition.
    Partition,
    /// A device made of disks or memory, or one that ka does not know.
    Other,
}

/// Classifies the device with this kernel name.
///
/// # Errors
/// The device does not exist, or one of its attributes cannot be read.
pub fn of(sys: &Path, name: &str) -> io::Result<Attachment> {
    let path = fs::canonicalize(sys.join("class/block").join(name))
        .or_else(|_| fs::canonicalize(sys.join("block").join(name)))?;
    if path.join("partition").exists() {
        return Ok(Attachment::Partition);
    }
    let Some(bus) = bus(name, &path) else { return Ok(Attachment::Other) };
    let on_a_network = |part: &OsStr| {
        // The kernel's names for Fibre Channel ports and iSCSI sessions.
        let part = part.to_string_lossy();
        part.starts_with("rport-") || is_numbered(&part, "session")
    };
    let network = path.iter().any(on_a_network) || (bus == "nvme" && !nvme_is_local(&path)?);
    Ok(Attachment::Disk { bus, network })
}

/// Whether a disk is attached to a hot-pluggable bus: USB (whatever its adapter presents the disk as),
/// `FireWire`, or a port that the kernel marks as removable, such as Thunderbolt and USB4.
#[must_use]
pub fn is_external(sys: &Path, name: &str) -> bool {
    let Ok(path) = fs::canonicalize(sys.join("block").join(name)) else { return false };
    let plugged = |part: &OsStr| {
        let part = part.to_string_lossy();
        is_numbered(&part, "usb") || is_firewire(&part)
    };
    // The disk's own `removable` attribute describes its medium, not its attachment.
    let removable = |above: &Path| {
        let text = fs::read_to_string(above.join("removable")).unwrap_or_default();
        text.trim_end() == "removable"
    };
    path.iter().any(plugged) || path.ancestors().skip(1).any(removable)
}

/// Whether this is a device on a `FireWire` bus. The kernel names the device `fw0` and its units `fw0.1`.
fn is_firewire(part: &str) -> bool {
    let number = part.strip_prefix("fw").and_then(|rest| rest.split('.').next());
    number.is_some_and(|number| is_numbered(number, ""))
}

/// Whether a disk is an SD card. The kernel marks no MMC device as removable, neither soldered eMMC chips
/// (whose `type` is `MMC`) nor cards in a reader.
#[must_use]
pub fn is_sd_card(sys: &Path, name: &str) -> bool {
    let kind = fs::read_to_string(sys.join("block").join(name).join("device/type")).unwrap_or_default();
    is_numbered(name, "mmcblk") && kind.trim_end().starts_with("SD")
}

/// The bus of a disk, from its name: `sda`, `hda`, `vda`, `xvda`, `nvme0n1`, `mmcblk0` (without its boot
/// areas), `loop0`.
fn bus(name: &str, path: &Path) -> Option<&'static str> {
    let lettered = |kind: &str| {
        name.strip_prefix(kind)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase()))
    };
    let is_nvme = name
        .rsplit_once('n')
        .is_some_and(|(controller, n)| is_numbered(controller, "nvme") && is_numbered(n, ""));
    let above = |kind: &str| path.iter().any(|part| is_numbered(&part.to_string_lossy(), kind));
    match () {
        () if lettered("sd") && above("ata") => Some("ata"),
        () if lettered("sd") && above("usb") => Some("usb"),
        () if lettered("sd") && path.iter().any(|part| is_firewire(&part.to_string_lossy())) => {
            Some("firewire")
        }
        () if lettered("sd") => Some("scsi"),
        () if lettered("hd") => Some("ata"),
        () if lettered("vd") => Some("virtio"),
        () if lettered("xvd") => Some("xen"),
        () if is_nvme => Some("nvme"),
        () if is_numbered(name, "mmcblk") => Some("mmc"),
        () if is_numbered(name, "loop") => Some("loop"),
        () => None,
    }
}

/// Whether an NVMe namespace has at least one path and every path stays inside this machine.
///
/// In sysfs a namespace is below its controller. Where several controllers may lead to it, it is below a
/// subsystem with a link to each of them. A controller's `transport` attribute has the transport.
fn nvme_is_local(namespace: &Path) -> io::Result<bool> {
    let above = namespace.parent().unwrap_or(namespace);
    let mut controllers = Vec::new();
    if above.join("transport").exists() {
        controllers.push(above.to_owned());
    } else {
        for entry in fs::read_dir(above)? {
            let entry = entry?;
            if is_numbered(&entry.file_name().to_string_lossy(), "nvme") {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn knows_whole_disks_by_name() {
        for (name, kind) in [
            ("sda", "scsi"),
            ("sdaa", "scsi"),
            ("hdb", "ata"),
            ("vda", "virtio"),
            ("xvda", "xen"),
            ("nvme0n1", "nvme"),
            ("nvme10n12", "nvme"),
            ("mmcblk0", "mmc"),
            ("loop7", "loop"),
        ] {
            assert_eq!(bus(name, Path::new("/sys")), Some(kind), "{name}");
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
            assert_eq!(bus(name, Path::new("/sys")), None, "{name}");
        }
    }

    #[test]
    fn an_sd_card_is_told_from_a_soldered_chip() {
        let sys = tempfile::tempdir().unwrap();
        for (name, kind, is) in [
            ("mmcblk0", "MMC\n", false),
            ("mmcblk1", "SD\n", true),
            ("mmcblk2", "SDcombo\n", true),
            // For a SCSI disk this is a number.
            ("sda", "0\n", false),
        ] {
            let device = sys.path().join("block").join(name).join("device");
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("type"), kind).unwrap();
            assert_eq!(is_sd_card(sys.path(), name), is, "{name}");
        }
        assert!(!is_sd_card(sys.path(), "mmcblk7"), "it is not there");
    }

    /// A `/sys` tree with a block device at a path below `devices`, with files and links next to it.
    fn kind_in(device: &str, files: &[(&str, &str)], links: &[(&str, &str)]) -> io::Result<Attachment> {
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
        of(sys.path(), name.to_str().unwrap())
    }

    #[test]
    fn a_disk_in_a_storage_network_is_told_from_a_local_one() {
        let pci = "pci0000:00/0000:00:04.0";
        let disk = |bus, network| Attachment::Disk { bus, network };
        for (device, is) in [
            (format!("{pci}/ata1/host0/target0:0:0/0:0:0:0/block/sda"), disk("ata", false)),
            (format!("{pci}/host0/target0:2:0/0:2:0:0/block/sda"), disk("scsi", false)),
            (format!("{pci}/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdd"), disk("usb", false)),
            ("platform/host3/session1/target3:0:0/3:0:0:1/block/sdb".to_owned(), disk("scsi", true)),
            (format!("{pci}/host1/rport-1:0-0/target1:0:0/1:0:0:0/block/sdc"), disk("scsi", true)),
            ("virtual/block/dm-0".to_owned(), Attachment::Other),
        ] {
            assert_eq!(kind_in(&device, &[], &[]).unwrap(), is, "{device}");
        }
        let sda1 = format!("{pci}/block/sda/sda1");
        let partition = format!("{sda1}/partition");
        assert_eq!(kind_in(&sda1, &[(&partition, "1\n")], &[]).unwrap(), Attachment::Partition);
    }

    #[test]
    fn what_a_person_has_plugged_in_is_external() {
        let pci = "pci0000:00/0000:00:1c.4";
        for (device, removable, external) in [
            (format!("{pci}/ata1/host0/target0:0:0/0:0:0:0/block/sda"), None, false),
            (format!("{pci}/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdb"), None, true),
            (
                format!("{pci}/usb2/2-1/2-1:1.0/rtsx_usb_sdmmc.1/mmc_host/mmc0/mmc0:1/block/mmcblk0"),
                None,
                true,
            ),
            (format!("{pci}/fw1/fw1.0/host7/target7:0:0/7:0:0:0/block/sdc"), None, true),
            (format!("{pci}/0000:05:00.0/nvme/nvme0/nvme0n1"), Some(format!("{pci}/0000:05:00.0")), true),
            (format!("{pci}/0000:05:00.0/nvme/nvme1/nvme1n1"), None, false),
        ] {
            let sys = tempfile::tempdir().unwrap();
            let folder = sys.path().join("devices").join(&device);
            fs::create_dir_all(&folder).unwrap();
            // This describes the medium, not the attachment.
            fs::write(folder.join("removable"), "0\n").unwrap();
            if let Some(port) = removable {
                fs::write(sys.path().join("devices").join(port).join("removable"), "removable\n").unwrap();
            }
            let name = Path::new(&device).file_name().unwrap().to_str().unwrap();
            fs::create_dir_all(sys.path().join("block")).unwrap();
            symlink(&folder, sys.path().join("block").join(name)).unwrap();
            assert_eq!(is_external(sys.path(), name), external, "{device}");
            if device.contains("fw1") {
                assert_eq!(bus(name, &folder), Some("firewire"));
            }
        }
    }

    #[test]
    fn a_namespace_over_fabrics_is_no_local_disk() {
        let nvme = |network| Attachment::Disk { bus: "nvme", network };
        for (transport, network) in [
            ("pcie\n", false),
            ("apple-nvme\n", false),
            ("tcp\n", true),
            ("rdma\n", true),
            ("fc\n", true),
            ("loop\n", true),
        ] {
            let below = kind_in("ctl/nvme0/nvme0n1", &[("ctl/nvme0/transport", transport)], &[]);
            assert_eq!(below.unwrap(), nvme(network), "{transport}");
            // Two controllers, the first of them local. The namespace's path `nvme1c0n1` is not a controller.
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
            assert_eq!(shared.unwrap(), nvme(network), "{transport}");
        }
        // No controller: the location is unknown.
        assert_eq!(kind_in("virtual/nvme-subsystem/nvme-subsys2/nvme2n1", &[], &[]).unwrap(), nvme(true));
        let unknown = kind_in("s/nvme3n1", &[("c/nvme3/state", "live\n")], &[("s/nvme3", "c/nvme3")]);
        assert_eq!(unknown.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
