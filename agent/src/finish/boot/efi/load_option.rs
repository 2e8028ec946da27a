//! An entry of a UEFI firmware's boot menu: the bytes of a `Boot####` variable.
//!
//! UEFI 2.10, 3.1.3 (load options) and 10.3 (device paths): attributes, length of the device path, a
//! NUL-terminated description in UTF-16, the device path, and data for the loader. All numbers are
//! little-endian.

use std::str::FromStr;

/// The firmware may start it.
const ACTIVE: u32 = 1;

/// A load option, as far as it is needed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoadOption {
    /// The text shown in the firmware's menu.
    pub(super) description: String,
    /// The nodes of the device path, each with its header.
    pub(super) path: Vec<u8>,
}

/// A partition in a device path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    /// Its number.
    pub(super) number: u32,
    /// Its first block.
    pub(super) start: u64,
    /// Its length in blocks.
    pub(super) length: u64,
    /// The signature that identifies the partition or its disk.
    pub(super) signature: Signature,
}

/// How a partition is identified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    /// By the signature of its MBR.
    Mbr(u32),
    /// By its own GUID, in GPT byte order.
    Gpt([u8; 16]),
}

/// Text that is not a PARTUUID.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not a PARTUUID")]
pub(super) struct BadPartuuid(String);

impl FromStr for Signature {
    type Err = BadPartuuid;

    /// Parses a PARTUUID: `0123abcd-02`, or a GUID.
    fn from_str(text: &str) -> Result<Self, BadPartuuid> {
        let bad = || BadPartuuid(text.to_owned());
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        match text.len() {
            36 => {
                let value = u128::from_str_radix(&digits, 16).map_err(|_| bad())?;
                let mut bytes = value.to_be_bytes();
                // The first three fields are little-endian numbers: 4, 2 and 2 bytes.
                for field in [0..4, 4..6, 6..8] {
                    bytes[field].reverse();
                }
                Ok(Self::Gpt(bytes))
            }
            11 => {
                u32::from_str_radix(text.get(..8).unwrap_or_default(), 16).map(Self::Mbr).map_err(|_| bad())
            }
            _ => Err(bad()),
        }
    }
}

impl LoadOption {
    /// The program `file` (`\EFI\debian\grubx64.efi`) on a partition.
    pub(super) fn of_file(description: &str, partition: &Partition, file: &str) -> Self {
        // Media device path, hard drive.
        let mut path = vec![0x04, 0x01, 42, 0];
        path.extend(partition.number.to_le_bytes());
        path.extend(partition.start.to_le_bytes());
        path.extend(partition.length.to_le_bytes());
        match &partition.signature {
            Signature::Mbr(signature) => {
                path.extend(signature.to_le_bytes());
                path.extend([0; 12]);
                path.extend([1, 1]);
            }
            Signature::Gpt(guid) => {
                path.extend(guid);
                path.extend([2, 2]);
            }
        }
        let name = utf16(file);
        let length = u16::try_from(4 + name.len()).unwrap_or(u16::MAX);
        // Media device path, file path; then the end of the entire path.
        path.extend([0x04, 0x04]);
        path.extend(length.to_le_bytes());
        path.extend(name);
        path.extend([0x7f, 0xff, 4, 0]);
        Self { description: description.to_owned(), path }
    }

    /// Parses a variable's value; `None` if it is not a load option.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (_attributes, rest) = bytes.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let end = rest.chunks_exact(2).position(|unit| unit == [0, 0])?;
        let units: Vec<u16> =
            rest.chunks_exact(2).take(end).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
        let path = rest.get(2 * (end + 1)..)?.get(..usize::from(u16::from_le_bytes(*length)))?;
        Some(Self { description: String::from_utf16_lossy(&units), path: path.to_vec() })
    }

    /// The variable's value.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = ACTIVE.to_le_bytes().to_vec();
        bytes.extend(u16::try_from(self.path.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend(utf16(&self.description));
        bytes.extend(&self.path);
        bytes
    }

    /// Whether it boots over the network: its path contains a hardware address, an IP address or a URI, or it
    /// is a BIOS network boot.
    pub(super) fn is_network(&self) -> bool {
        self.nodes().any(|(kind, data)| match kind {
            (0x03, 11 | 12 | 13 | 24) => true,
            (0x05, 1) => data.starts_with(&[0x80, 0]),
            _ => false,
        })
    }

    /// The signature of the partition that it boots from, if any.
    pub(super) fn signature(&self) -> Option<Signature> {
        self.nodes().find_map(|(kind, data)| {
            let signature = data.get(20..36)?;
            match (kind, data.get(37)?) {
                ((0x04, 1), 1) => Some(Signature::Mbr(u32::from_le_bytes(*signature.first_chunk()?))),
                ((0x04, 1), 2) => Some(Signature::Gpt(*signature.first_chunk()?)),
                _ => None,
            }
        })
    }

    /// The type and subtype of each node, with the data after its header.
    fn nodes(&self) -> impl Iterator<Item = ((u8, u8), &[u8])> {
        let mut rest = self.path.as_slice();
        std::iter::from_fn(move || {
            let header = *rest.first_chunk::<4>()?;
            let length = usize::from(u16::from_le_bytes([header[2], header[3]]));
            let node = rest.get(4..length)?;
            rest = rest.get(length..)?;
            Some(((header[0], header[1]), node))
        })
    }
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::finish) fn disk_entry(label: &str, partuuid: &str) -> LoadOption {
        let signature = partuuid.parse().unwrap();
        let partition = Partition { number: 1, start: 2048, length: 1_048_576, signature };
        LoadOption::of_file(label, &partition, "\\EFI\\debian\\grubx64.efi")
    }

    /// As OVMF writes one: PciRoot, Pci, MAC, IPv4.
    pub(in crate::finish) fn network_entry(label: &str) -> LoadOption {
        let mut path = vec![0x02, 0x01, 12, 0];
        path.extend([0xd0, 0x41, 0x03, 0x0a, 0, 0, 0, 0]);
        path.extend([0x01, 0x01, 6, 0, 0, 3]);
        path.extend([0x03, 0x0b, 37, 0]);
        path.extend([0; 33]);
        path.extend([0x7f, 0xff, 4, 0]);
        LoadOption { description: label.to_owned(), path }
    }

    #[test]
    fn what_is_written_is_read() {
        let guid = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
        let option = disk_entry("débian", guid);
        assert_eq!(LoadOption::decode(&option.encode()), Some(option.clone()));
        assert_eq!(option.signature(), Some(guid.parse().unwrap()));
        assert!(!option.is_network() && network_entry("PXE").is_network());
        // The specification's own example of a GUID in memory.
        let Signature::Gpt(bytes) = guid.parse().unwrap() else { panic!() };
        assert_eq!(bytes[..8], [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]);
        let mbr = disk_entry("x", "0123abcd-01");
        assert_eq!(mbr.signature(), Some(Signature::Mbr(0x0123_abcd)));
    }

    #[test]
    fn rubbish_is_no_load_option() {
        let whole = disk_entry("debian", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b").encode();
        for length in 0..whole.len() {
            assert_eq!(LoadOption::decode(&whole[..length]), None, "{length}");
        }
        for path in [vec![4, 1, 0, 0], vec![4, 1, 3, 0], vec![4, 1, 255, 255], vec![4]] {
            let option = LoadOption { description: String::new(), path };
            assert_eq!((option.signature(), option.is_network()), (None, false));
        }
        assert!("0123abcd".parse::<Signature>().is_err() && "zzzzzzzz-01".parse::<Signature>().is_err());
    }
}
