//! What the client tells a DHCP server about the machine, in the same way as its network ROM (RFC 4578).

use std::fs;

use ka::inventory::Firmware;
use ka_host::hardware;

/// Where the kernel shows the machine's UUID.
const UUID: &str = "/sys/class/dmi/id/product_uuid";

/// A machine as DHCP describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// The client architecture type (RFC 4578, 2.1).
    pub(super) architecture: u16,
    /// Its SMBIOS UUID, if any.
    pub(super) uuid: Option<[u8; 16]>,
}

impl Machine {
    pub(super) fn of_this() -> Self {
        let architecture = match hardware::firmware() {
            _ if cfg!(target_arch = "aarch64") => 11,
            Firmware::Bios => 0,
            Firmware::Uefi => 7,
        };
        Self { architecture, uuid: fs::read_to_string(UUID).ok().and_then(|text| uuid(text.trim())) }
    }

    /// The vendor class of a network ROM: some servers answer only that.
    pub(super) fn rom_class(self) -> String {
        format!("PXEClient:Arch:{:05}:UNDI:003016", self.architecture)
    }
}

/// SMBIOS stores the first three fields in little-endian order, and a ROM sends them so.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let mut bytes = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?.to_be_bytes();
    // SMBIOS's value for "not set".
    if bytes == [0; 16] || bytes == [0xff; 16] {
        return None;
    }
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_sent_as_the_rom_sends_it() {
        let expected = [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 1, 2, 3, 4, 5, 6];
        assert_eq!(uuid("00112233-4455-6677-8899-010203040506"), Some(expected));
        for none in ["00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "", "7"]
        {
            assert_eq!(uuid(none), None, "{none}");
        }
    }
}
