//! The identity of a disk. It is compared before the first write, so that only the confirmed disk is erased.
//!
//! The kernel's name is not reliable: at the next boot, or after a cable was moved, `sda` may be another
//! disk. An identity holds the other properties that the disk and the kernel report. Within one boot all of
//! them must match, above all the kernel's sequence number of the medium. Across boots the disk must be
//! recognised by its own name (worldwide name or serial number) or, if it has none, by the place where it is
//! attached: that is its [`Pin`].

use crate::inventory::Disk;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The properties that distinguish a disk from others. An empty text is unknown, or does not distinguish the
/// disk from another one in the same machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskIdentity {
    /// Size in bytes.
    pub size: u64,
    /// Logical sector size in bytes.
    pub sector_size: u32,
    /// The worldwide name: `naa.…`, `eui.…`, `t10.…`.
    pub wwid: String,
    /// The serial number.
    pub serial: String,
    /// Where it is attached, without numbers that change at every boot.
    pub path: String,
    /// The boot in which the kernel assigned the sequence number.
    pub boot: String,
    /// The kernel's number of the medium (BLKGETDISKSEQ): a new one for every disk that appears, and for
    /// every file attached to a loop device.
    pub sequence: Option<u64>,
    /// The backing of a loop device.
    pub backing: Option<Backing>,
}

/// The file behind a loop device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backing {
    /// The device of the file's file system.
    pub device: u64,
    /// The file's inode.
    pub inode: u64,
    /// The block device, if the file is one; 0 otherwise.
    pub of_device: u64,
    /// The offset in the file at which the loop device begins.
    pub offset: u64,
    /// Its maximum length; 0 if unlimited.
    pub limit: u64,
}

/// The property that identifies a disk after a reboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin<'a> {
    /// Its worldwide name.
    Wwid(&'a str),
    /// Its serial number.
    Serial(&'a str),
    /// The place where it is attached.
    Path(&'a str),
}

/// Why a disk is not certain to be the confirmed one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It is another disk.
    #[error("it is not the disk that was confirmed: its {what} is {now}, and was {shown}")]
    Other {
        /// The property that differs.
        what: &'static str,
        /// The confirmed value.
        shown: String,
        /// The current value.
        now: String,
    },
    /// It has no property that could identify it.
    #[error(
        "it cannot be recognised as the disk that was confirmed: no worldwide name, serial number or place \
         of its own"
    )]
    Unknown,
}

impl DiskIdentity {
    /// The property that can identify it after a reboot, if there is one.
    #[must_use]
    pub fn pin(&self) -> Option<Pin<'_>> {
        match self {
            Self { wwid, .. } if !wwid.is_empty() => Some(Pin::Wwid(wwid)),
            Self { serial, .. } if !serial.is_empty() => Some(Pin::Serial(serial)),
            Self { path, .. } if !path.is_empty() => Some(Pin::Path(path)),
            _ => None,
        }
    }

    /// Checks that `now` is this disk.
    ///
    /// # Errors
    /// It is another disk, or nothing identifies it.
    pub fn check(&self, now: &Self) -> Result<(), Mismatch> {
        differ("size in bytes", &self.size, &now.size)?;
        differ("sector size", &self.sector_size, &now.sector_size)?;
        if self.boot.is_empty() || self.boot != now.boot { self.check_pin(now) } else { self.check_all(now) }
    }

    /// Within a boot no property may change.
    fn check_all(&self, now: &Self) -> Result<(), Mismatch> {
        differ("worldwide name", &Quoted(&self.wwid), &Quoted(&now.wwid))?;
        differ("serial number", &Quoted(&self.serial), &Quoted(&now.serial))?;
        differ("file", &Behind(self.backing.as_ref()), &Behind(now.backing.as_ref()))?;
        if let (Some(shown), Some(now)) = (self.sequence, now.sequence) {
            // Wherever it is attached: the sequence number is sufficient.
            return differ("sequence number", &shown, &now);
        }
        differ("place", &Quoted(&self.path), &Quoted(&now.path))?;
        if self.pin().is_none() && self.backing.is_none() { Err(Mismatch::Unknown) } else { Ok(()) }
    }

    fn check_pin(&self, now: &Self) -> Result<(), Mismatch> {
        match self.pin().ok_or(Mismatch::Unknown)? {
            Pin::Wwid(wwid) => differ("worldwide name", &Quoted(wwid), &Quoted(&now.wwid)),
            Pin::Serial(serial) => differ("serial number", &Quoted(serial), &Quoted(&now.serial)),
            Pin::Path(path) => {
                differ("place", &Quoted(path), &Quoted(&now.path))?;
                // A disk that has its own name now is not one that had none.
                differ("worldwide name", &Quoted(""), &Quoted(&now.wwid))?;
                differ("serial number", &Quoted(""), &Quoted(&now.serial))
            }
        }
    }
}

/// Finds the confirmed disk among those of its machine, whatever its current name.
///
/// # Errors
/// It is missing, or nothing identifies it.
pub fn find<'a>(shown: &DiskIdentity, disks: &'a [Disk]) -> Result<&'a Disk, Mismatch> {
    let mut found = disks.iter().filter(|disk| shown.check(&disk.identity).is_ok());
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        // On several paths it has the same worldwide name.
        (Some(one), Some(_)) if !shown.wwid.is_empty() => Ok(one),
        (Some(_), Some(_)) => Err(Mismatch::Unknown),
        (None, _) => Err(match shown.pin() {
            None => Mismatch::Unknown,
            Some(pin) => Mismatch::Other {
                what: pin.what(),
                shown: pin.to_string(),
                now: "on none of this machine's disks".to_owned(),
            },
        }),
    }
}

/// Clears properties that do not distinguish a disk from the machine's other ones: cheap adapters all have
/// the same serial number.
pub fn keep_what_tells(disks: &mut [Disk]) {
    let all: Vec<DiskIdentity> = disks.iter().map(|disk| disk.identity.clone()).collect();
    for (i, disk) in disks.iter_mut().enumerate() {
        let DiskIdentity { wwid, serial, path, .. } = &mut disk.identity;
        let others = || all.iter().enumerate().filter(|(other, _)| *other != i).map(|(_, other)| other);
        // Disks with the same worldwide name are one disk.
        if others().any(|other| other.serial == *serial && (wwid.is_empty() || other.wwid != *wwid)) {
            serial.clear();
        }
        if others().any(|other| other.path == *path) {
            path.clear();
        }
    }
}

impl Pin<'_> {
    fn what(self) -> &'static str {
        match self {
            Self::Wwid(_) => "worldwide name",
            Self::Serial(_) => "serial number",
            Self::Path(_) => "place",
        }
    }
}

impl fmt::Display for Pin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Wwid(text) | Self::Serial(text) | Self::Path(text)) = self;
        Quoted(text).fmt(f)
    }
}

fn differ<T: PartialEq + fmt::Display>(what: &'static str, shown: &T, now: &T) -> Result<(), Mismatch> {
    if shown == now {
        return Ok(());
    }
    Err(Mismatch::Other { what, shown: shown.to_string(), now: now.to_string() })
}

#[derive(PartialEq)]
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("not known") } else { write!(f, "`{}`", self.0) }
    }
}

#[derive(PartialEq)]
struct Behind<'a>(Option<&'a Backing>);

impl fmt::Display for Behind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("none"),
            Some(Backing { inode, offset, .. }) => write!(f, "inode {inode} from byte {offset} on"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(wwid: &str, serial: &str, path: &str) -> DiskIdentity {
        DiskIdentity {
            size: 1000,
            sector_size: 512,
            wwid: wwid.into(),
            serial: serial.into(),
            path: path.into(),
            boot: "1".into(),
            sequence: Some(7),
            backing: None,
        }
    }

    fn at_another_boot(identity: &DiskIdentity) -> DiskIdentity {
        DiskIdentity { boot: "2".into(), sequence: Some(3), ..identity.clone() }
    }

    #[test]
    fn within_a_boot_everything_must_agree() {
        let shown = identity("naa.1", "S", "pci-1");
        shown.check(&shown).unwrap();
        let backing = Some(Backing { inode: 3, ..Backing::default() });
        for (now, what) in [
            (DiskIdentity { size: 1001, ..shown.clone() }, "size in bytes is 1001, and was 1000"),
            (DiskIdentity { sector_size: 4096, ..shown.clone() }, "sector size"),
            (DiskIdentity { wwid: "naa.2".into(), ..shown.clone() }, "worldwide name is `naa.2`"),
            (DiskIdentity { serial: String::new(), ..shown.clone() }, "serial number is not known"),
            (DiskIdentity { sequence: Some(8), ..shown.clone() }, "sequence number is 8, and was 7"),
            (DiskIdentity { backing, ..shown.clone() }, "file is inode 3"),
            (DiskIdentity { sequence: None, path: "pci-2".into(), ..shown.clone() }, "place"),
        ] {
            let error = shown.check(&now).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        // A kernel without sequence numbers, and a disk without a name: only the place is left, or nothing.
        let old = DiskIdentity { sequence: None, ..identity("", "", "pci-1") };
        old.check(&old).unwrap();
        let nothing = DiskIdentity { path: String::new(), ..old };
        assert_eq!(nothing.check(&nothing), Err(Mismatch::Unknown));
    }

    #[test]
    fn at_another_boot_a_disk_is_known_by_its_name_or_its_place() {
        for shown in [identity("naa.1", "S", "a"), identity("", "S", "a"), identity("", "", "a")] {
            shown.check(&at_another_boot(&shown)).unwrap();
        }
        // It may be attached elsewhere if it has a name.
        for shown in [identity("naa.1", "S", "a"), identity("", "S", "a")] {
            shown.check(&DiskIdentity { path: "b".into(), ..at_another_boot(&shown) }).unwrap();
        }
        for (shown, now) in [
            (identity("naa.1", "S", "a"), identity("naa.2", "S", "a")),
            (identity("naa.1", "S", "a"), identity("", "S", "a")),
            (identity("", "S", "a"), identity("", "T", "a")),
            (identity("", "", "a"), identity("", "", "b")),
            (identity("", "", "a"), identity("", "T", "a")),
            (identity("", "", ""), identity("", "", "")),
        ] {
            assert!(shown.check(&at_another_boot(&now)).is_err(), "{shown:?} {now:?}");
        }
        // A loop device has nothing that identifies it after a reboot.
        let file = DiskIdentity { backing: Some(Backing::default()), ..identity("", "", "") };
        assert_eq!(file.check(&at_another_boot(&file)), Err(Mismatch::Unknown));
        // Without a boot id, it counts as another boot.
        let unsure = DiskIdentity { boot: String::new(), ..identity("", "", "") };
        assert_eq!(unsure.check(&unsure), Err(Mismatch::Unknown));
    }

    fn disk(name: &str, identity: DiskIdentity) -> Disk {
        Disk { name: name.into(), identity, ..Disk::default() }
    }

    #[test]
    fn the_disk_that_was_confirmed_is_found_under_another_name() {
        let (system, data) = (identity("", "SYSTEM", "a"), identity("", "DATA", "b"));
        let swapped = [disk("sda", at_another_boot(&data)), disk("sdb", at_another_boot(&system))];
        assert_eq!(find(&system, &swapped).unwrap().name, "sdb");
        let error = find(&system, &swapped[..1]).unwrap_err().to_string();
        assert!(error.contains("`SYSTEM`"), "{error}");
        let nameless = identity("", "", "");
        assert_eq!(find(&nameless, &swapped).unwrap_err(), Mismatch::Unknown);
    }

    #[test]
    fn what_two_disks_have_tells_neither() {
        let mut disks = [
            disk("sda", identity("", "0123456789", "a")),
            disk("sdb", identity("", "0123456789", "b")),
            disk("sdc", identity("naa.1", "S", "c")),
            disk("sdd", identity("naa.1", "S", "d")),
            disk("sde", identity("", "E", "e")),
            disk("sdf", identity("", "F", "e")),
        ];
        keep_what_tells(&mut disks);
        let left: Vec<Option<Pin<'_>>> = disks.iter().map(|disk| disk.identity.pin()).collect();
        assert_eq!(
            left,
            [
                Some(Pin::Path("a")),
                Some(Pin::Path("b")),
                Some(Pin::Wwid("naa.1")),
                Some(Pin::Wwid("naa.1")),
                Some(Pin::Serial("E")),
                Some(Pin::Serial("F")),
            ]
        );
        assert_eq!(disks[2].identity.serial, "S", "one disk on two paths");
        assert_eq!(disks[4].identity.path, "");
    }
}
