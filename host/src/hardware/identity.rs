//! The identity of a disk: model, serial number, and its names in /dev/disk/by-id.
//!
//! A node runs no udev, so the names are built here by udev's rules (60-persistent-storage.rules). Where udev
//! runs, its links are used as well.

use std::fs;
use std::path::Path;

use super::{Tree, names, printable, text};

/// What a disk reports about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) model: String,
    /// Its serial number, or else the worldwide name.
    pub(super) serial: String,
    /// Its serial number; empty if it reports none.
    pub(super) own_serial: String,
    /// The worldwide name, `naa.…`, `eui.…` or `t10.…`: the same on all paths to the disk.
    pub(super) wwid: String,
    /// Sorted, without duplicates.
    pub(super) by_id: Vec<String>,
}

impl Identity {
    pub(super) fn read(tree: &Tree, name: &str, bus: &str) -> Self {
        let folder = tree.sys.join("block").join(name);
        let wwid = first(&folder, &["wwid", "device/wwid"]);
        let (model, serial) = (model(&folder), serial(&folder));
        let mut by_id = made_up(&folder, bus, &model, &serial, &wwid);
        by_id.extend(links(tree, name));
        by_id.sort();
        by_id.dedup();
        let shown = if serial.is_empty() { wwid.clone() } else { serial.clone() };
        Self { serial: shown, own_serial: serial, model, wwid, by_id }
    }
}

fn first(folder: &Path, attributes: &[&str]) -> String {
    attributes
        .iter()
        .map(|path| printable(&text(&folder.join(path))))
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

/// The kernel truncates the model of an ATA disk to 16 characters. Page 0x89 of its vital product data has
/// all of it.
fn model(folder: &Path) -> String {
    let page = fs::read(folder.join("device/vpd_pg89")).ok().and_then(|page| ata_model(&page));
    page.unwrap_or_else(|| first(folder, &["device/model", "device/name"]))
}

/// NVMe and MMC have `device/serial`, virtio has `serial`, SCSI and ATA have page 0x80 of the vital product
/// data.
fn serial(folder: &Path) -> String {
    let found = first(folder, &["device/serial", "serial"]);
    if !found.is_empty() {
        return found;
    }
    let page = fs::read(folder.join("device/vpd_pg80")).ok().and_then(|page| unit_serial(&page));
    page.unwrap_or_default()
}

/// The unit serial number page (SPC-4, 7.8.14): two bytes of type, two of length, then text.
fn unit_serial(page: &[u8]) -> Option<String> {
    let (header, rest) = page.split_first_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let serial = rest.get(..length.min(rest.len()))?;
    Some(printable(&String::from_utf8_lossy(serial)))
}

/// The ATA information page (SAT-4, 12.4.2). IDENTIFY DEVICE data begins at byte 60. Its words 27 to 46 are
/// the model, with the first character of each pair in the high byte.
fn ata_model(page: &[u8]) -> Option<String> {
    let words = page.get(60 + 2 * 27..60 + 2 * 47)?;
    let swapped: Vec<u8> = words.chunks_exact(2).flat_map(|pair| pair.iter().rev().copied()).collect();
    Some(printable(&String::from_utf8_lossy(&swapped))).filter(|model| !model.is_empty())
}

/// The names that udev would create.
fn made_up(folder: &Path, bus: &str, model: &str, serial: &str, wwid: &str) -> Vec<String> {
    let mut names = Vec::new();
    if !serial.is_empty() {
        let model_and_serial = format!("{}_{}", plain(model), plain(serial));
        match bus {
            "virtio" => names.push(format!("virtio-{}", plain(serial))),
            "ata" | "mmc" if !model.is_empty() => names.push(format!("{bus}-{model_and_serial}")),
            "nvme" => {
                names.push(format!("nvme-{model_and_serial}"));
                let namespace = text(&folder.join("nsid"));
                names.extend((!namespace.is_empty()).then(|| format!("nvme-{model_and_serial}_{namespace}")));
            }
            _ => {}
        }
    }
    match wwid.split_once('.') {
        _ if bus == "nvme" && !wwid.is_empty() => names.push(format!("nvme-{}", plain(wwid))),
        Some(("naa", number)) => {
            names.push(format!("wwn-0x{number}"));
            names.push(format!("scsi-3{number}"));
        }
        Some(("eui", number)) => {
            names.push(format!("wwn-0x{number}"));
            names.push(format!("scsi-2{number}"));
        }
        Some(("t10", text)) if bus == "scsi" => names.push(format!("scsi-1{}", plain(text))),
        None if bus == "scsi" => names.extend(vendors_own(folder, model, serial)),
        _ => {}
    }
    names
}

/// The name that udev's `scsi_id` gives to a disk without a worldwide name, as in virtual machines: vendor,
/// model, and the vendor's identifier or else the serial number.
fn vendors_own(folder: &Path, model: &str, serial: &str) -> Option<String> {
    let vendor = first(folder, &["device/vendor"]);
    let page = fs::read(folder.join("device/vpd_pg83")).ok();
    let (kind, own) = match page.as_deref().and_then(vendors_designator) {
        Some(own) => ('0', own),
        None if serial.is_empty() => return None,
        None => ('S', serial.to_owned()),
    };
    Some(format!("scsi-{kind}{}", plain(&format!("{vendor:<8}{model:<16}{own}"))))
}

/// The device identification page (SPC-4, 7.8.6): four bytes, then designators with a header of four bytes
/// each. Type 0 with code set 2 is the vendor's text.
fn vendors_designator(page: &[u8]) -> Option<String> {
    let mut rest = page.get(4..)?;
    while let Some((&[code_set, kind, _, length], behind)) = rest.split_first_chunk::<4>() {
        let length = usize::from(length);
        let text = behind.get(..length)?;
        if code_set & 0xf == 2 && kind & 0x3f == 0 {
            return Some(printable(&String::from_utf8_lossy(text))).filter(|text| !text.is_empty());
        }
        rest = behind.get(length..)?;
    }
    None
}

/// Text as udev puts it into names: one `_` for blanks, and no character that would end a path component.
fn plain(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c);
    words.join("_").chars().map(|c| if is_plain(c) { c } else { '_' }).collect()
}

/// The links that udev created.
fn links(tree: &Tree, name: &str) -> Vec<String> {
    let folder = tree.dev.join("disk/by-id");
    let Ok(node) = tree.dev.join(name).canonicalize() else { return Vec::new() };
    let leads_here = |link: &String| folder.join(link).canonicalize().is_ok_and(|path| path == node);
    names(&folder).into_iter().filter(leads_here).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_page_is_read_within_its_bounds() {
        for (page, serial) in [
            (&b""[..], None),
            (b"\0\x80\0", None),
            (b"\0\x80\0\0", Some("")),
            (b"\0\x80\0\x04AB  more", Some("AB")),
            (b"\0\x80\xff\xffAB\0", Some("AB")),
        ] {
            assert_eq!(unit_serial(page).as_deref(), serial);
        }
    }

    #[test]
    fn the_whole_model_of_an_ata_disk_is_in_its_identification() {
        let mut page = vec![0; 572];
        let model = b"Samsung SSD 870 EVO 500GB               ";
        for (i, pair) in model.chunks(2).enumerate() {
            page[60 + 54 + 2 * i] = pair[1];
            page[60 + 54 + 2 * i + 1] = pair[0];
        }
        assert_eq!(ata_model(&page).as_deref(), Some("Samsung SSD 870 EVO 500GB"));
        assert_eq!(ata_model(&page[..150]), None);
        assert_eq!(ata_model(&[0; 572]), None);
    }

    /// As QEMU and VMware present disks, without a worldwide name.
    #[test]
    fn a_scsi_disk_without_a_worldwide_name_has_its_vendors() {
        let folder = tempfile::tempdir().unwrap();
        let names = |serial| made_up(folder.path(), "scsi", "QEMU HARDDISK", serial, "");
        assert_eq!(names(""), [""; 0]);
        fs::create_dir(folder.path().join("device")).unwrap();
        fs::write(folder.path().join("device/vendor"), "QEMU    \n").unwrap();
        assert_eq!(names("node1"), ["scsi-SQEMU_QEMU_HARDDISK_node1"]);
        // The name of another port comes first.
        let page = b"\0\x83\0\x18\x01\x13\0\x04abcd\x02\0\0\x0cdrive-scsi0 ";
        fs::write(folder.path().join("device/vpd_pg83"), page).unwrap();
        assert_eq!(names("node1"), ["scsi-0QEMU_QEMU_HARDDISK_drive-scsi0"]);
        for end in 0..page.len() {
            fs::write(folder.path().join("device/vpd_pg83"), &page[..end]).unwrap();
            assert!(names("").len() <= 1, "a truncated page is harmless");
        }
    }

    /// As in /dev/disk/by-id on machines with udev.
    #[test]
    fn names_are_made_up_as_udev_does() {
        let none = Path::new("/nonexistent");
        for (bus, model, serial, wwid, names) in [
            (
                "ata",
                "Samsung SSD 870 EVO 500GB",
                "S6PYNX0R1",
                "naa.5002538f4132",
                &["ata-Samsung_SSD_870_EVO_500GB_S6PYNX0R1", "wwn-0x5002538f4132", "scsi-35002538f4132"][..],
            ),
            (
                "nvme",
                "KXG60ZNV  256G",
                "99XF",
                "eui.8ce38e03",
                &["nvme-KXG60ZNV_256G_99XF", "nvme-eui.8ce38e03"],
            ),
            ("virtio", "", "golden-1", "", &["virtio-golden-1"]),
            ("mmc", "DG4016", "0x07", "", &["mmc-DG4016_0x07"]),
            ("scsi", "QEMU HARDDISK", "", "t10.QEMU    QEMU  d/0", &["scsi-1QEMU_QEMU_d_0"]),
            ("ata", "", "", "", &[]),
        ] {
            assert_eq!(made_up(none, bus, model, serial, wwid), names, "{bus}");
        }
    }
}
