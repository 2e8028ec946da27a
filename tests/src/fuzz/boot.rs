//! Input that a node takes from the network and from its boot loader before anything is authenticated.

use ka::cmdline;
use ka_agent::boot::network;

use super::input::Input;

/// Parses any text as a kernel command line. Neither the parsed values nor the complaints can break a log
/// line.
pub(super) fn command_line(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match cmdline::parse(&text) {
        Ok(line) => {
            assert!(ka::wire::session_names::is_valid(&line.session));
            if let cmdline::Addressing::Static(address) = line.addressing {
                assert!(address.prefix <= 32);
            }
            if let Some(server) = line.server {
                assert!(server.port != 0 && !server.host.is_empty());
            }
        }
        Err(error) => assert!(error.to_string().starts_with("kernel command line")),
    }
}

/// Parses any datagram as a DHCP server's answer, also with the fields that make it an answer to us.
pub(super) fn dhcp_answer(data: &[u8]) {
    let mut input = Input::new(data);
    let mac = ka::mac::Mac([0x52, 0x54, 0, 1, 2, 3]);
    let ours = input.byte() & 1 == 1;
    let mut datagram = input.rest().to_vec();
    if ours && datagram.len() >= 240 {
        datagram[0] = 2;
        datagram[1..4].copy_from_slice(&[1, 6, 0]);
        datagram[4..8].copy_from_slice(&7_u32.to_be_bytes());
        datagram[28..34].copy_from_slice(&mac.0);
        datagram[236..240].copy_from_slice(&[99, 130, 83, 99]);
    }
    network::try_dhcp_answer(&datagram, mac, 7);
}
