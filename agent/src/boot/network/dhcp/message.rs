//! What a DHCP client says, and what it reads out of a server's answers: RFC 2131 and RFC 2132.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{DhcpOption, Flags, HType, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};

use super::super::{Setting, prefix_of};
use super::timers::Timers;
use ka::mac::Mac;

/// Length of all that stands before the options: the fixed fields and the magic cookie.
const HEADER: usize = 240;

/// What a server has granted, or offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Lease {
    pub(in super::super) setting: Setting,
    pub(in super::super) hostname: Option<String>,
    pub(in super::super) next_server: Option<Ipv4Addr>,
    /// The server that granted it.
    pub(super) server: Ipv4Addr,
    /// None if it never ends.
    pub(super) timers: Option<Timers>,
}

/// A server's answer to one of our questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Offer(Lease),
    Ack(Lease),
    /// The address is not, or no longer, ours. With the server's reason.
    Nak(String),
}

/// What the client wants.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question<'a> {
    /// An offer, from whoever is there.
    Discover,
    /// The address that was offered.
    Request(&'a Lease),
    /// More time, from the server that granted the lease.
    Renew(&'a Lease),
    /// More time, from anybody.
    Rebind(&'a Lease),
}

impl Question<'_> {
    /// The datagram, sent `elapsed` after the first one of this exchange.
    pub(super) fn packet(
        &self,
        mac: Mac,
        xid: u32,
        elapsed: Duration,
    ) -> Result<Vec<u8>, dhcproto::error::EncodeError> {
        let mut message = Message::default();
        message
            .set_opcode(Opcode::BootRequest)
            .set_htype(HType::Eth)
            .set_xid(xid)
            .set_secs(u16::try_from(elapsed.as_secs()).unwrap_or(u16::MAX))
            .set_chaddr(&mac.0);
        let kind = match self {
            Self::Discover => MessageType::Discover,
            _ => MessageType::Request,
        };
        // Type 1 and the hardware address: the same identity that network ROMs use, so the same lease.
        let identity = std::iter::once(1).chain(mac.0).collect();
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ClientIdentifier(identity));
        options.insert(DhcpOption::ParameterRequestList(vec![
            OptionCode::SubnetMask,
            OptionCode::Router,
            OptionCode::Hostname,
            OptionCode::AddressLeaseTime,
            OptionCode::ServerIdentifier,
            OptionCode::Renewal,
            OptionCode::Rebinding,
            OptionCode::TFTPServerName,
        ]));
        match self {
            Self::Discover => {}
            Self::Request(offer) => {
                options.insert(DhcpOption::RequestedIpAddress(offer.setting.address));
                options.insert(DhcpOption::ServerIdentifier(offer.server));
            }
            Self::Renew(lease) | Self::Rebind(lease) => {
                message.set_ciaddr(lease.setting.address);
            }
        }
        // Without an address, we can only hear broadcasts.
        if matches!(self, Self::Discover | Self::Request(_)) {
            message.set_flags(Flags::default().set_broadcast());
        }
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes))?;
        Ok(bytes)
    }
}

/// Reads a datagram; none if it is no answer to us, or offers nothing that can be used.
pub(super) fn answer(datagram: &[u8], mac: Mac, xid: u32) -> Option<Answer> {
    let message = Message::decode(&mut Decoder::new(&with_known_options(datagram)?)).ok()?;
    if message.opcode() != Opcode::BootReply || message.xid() != xid || message.chaddr() != mac.0 {
        return None;
    }
    let options = message.opts();
    match options.msg_type()? {
        MessageType::Offer => lease(&message).map(Answer::Offer),
        MessageType::Ack => lease(&message).map(Answer::Ack),
        MessageType::Nak => Some(Answer::Nak(match options.get(OptionCode::Message) {
            Some(DhcpOption::Message(reason)) => reason.escape_debug().to_string(),
            _ => "no reason given".to_owned(),
        })),
        _ => None,
    }
}

/// The datagram with those options only that are looked at. Servers send all kinds of others, and one that is not as
/// its RFC wants it must not cost the whole answer.
fn with_known_options(datagram: &[u8]) -> Option<Vec<u8>> {
    let (header, mut rest) = datagram.split_at_checked(HEADER)?;
    let mut kept = header.to_vec();
    while let Some((&code, after)) = rest.split_first() {
        if code == u8::from(OptionCode::Pad) {
            rest = after;
            continue;
        }
        let Some((&length, after)) = after.split_first() else { break };
        let Some((value, after)) = after.split_at_checked(length.into()) else { break };
        let known = match OptionCode::from(code) {
            OptionCode::MessageType => length == 1,
            OptionCode::SubnetMask
            | OptionCode::ServerIdentifier
            | OptionCode::AddressLeaseTime
            | OptionCode::Renewal
            | OptionCode::Rebinding => length == 4,
            OptionCode::Router => length % 4 == 0,
            OptionCode::Hostname | OptionCode::Message => str::from_utf8(value).is_ok(),
            OptionCode::TFTPServerName => true,
            OptionCode::End => break,
            _ => false,
        };
        if known {
            kept.extend_from_slice(&[code, length]);
            kept.extend_from_slice(value);
        }
        rest = after;
    }
    kept.push(OptionCode::End.into());
    Some(kept)
}

fn lease(message: &Message) -> Option<Lease> {
    let options = message.opts();
    let address = message.yiaddr();
    // A proxy of a network ROM answers without an address (PXE specification, 2.2).
    if address.is_unspecified() {
        return None;
    }
    let server = match options.get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => *server,
        _ => return None,
    };
    let prefix = match options.get(OptionCode::SubnetMask) {
        Some(DhcpOption::SubnetMask(mask)) => prefix_of(*mask),
        _ => None,
    };
    let Some(prefix) = prefix else {
        log::warn!("DHCP server {server} offers {address} with no usable subnet mask: ignored");
        return None;
    };
    let gateway = match options.get(OptionCode::Router) {
        Some(DhcpOption::Router(routers)) => routers.first().copied(),
        _ => None,
    };
    let hostname = match options.get(OptionCode::Hostname) {
        Some(DhcpOption::Hostname(name)) => Some(name.trim_end_matches('\0').to_owned()),
        _ => None,
    };
    let number = |code| match options.get(code)? {
        DhcpOption::AddressLeaseTime(s) | DhcpOption::Renewal(s) | DhcpOption::Rebinding(s) => Some(*s),
        _ => None,
    };
    Some(Lease {
        setting: Setting { address, prefix, gateway: gateway.filter(|g| !g.is_unspecified()) },
        hostname: hostname.filter(|name| is_hostname(name)),
        next_server: Some(next_server(message, server)),
        server,
        timers: number(OptionCode::AddressLeaseTime).and_then(|duration| {
            Timers::new(duration, number(OptionCode::Renewal), number(OptionCode::Rebinding))
        }),
    })
}

/// RFC 1123, 2.1, and underscores, which sites do use. Anything else would end up in logs and on terminals.
fn is_hostname(name: &str) -> bool {
    (1..=253).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

/// Who serves the next step of the boot: the header's field, else option 66 if it is an address, else the
/// DHCP server itself.
fn next_server(message: &Message, server: Ipv4Addr) -> Ipv4Addr {
    let option = match message.opts().get(OptionCode::TFTPServerName) {
        Some(DhcpOption::TFTPServerName(name)) => {
            str::from_utf8(name).ok().and_then(|name| name.trim_end_matches('\0').parse().ok())
        }
        _ => None,
    };
    Some(message.siaddr()).filter(|address| !address.is_unspecified()).or(option).unwrap_or(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);
    const XID: u32 = 0x1234_5678;

    fn reply(kind: MessageType, more: &[DhcpOption]) -> Message {
        let mut message = Message::default();
        message.set_opcode(Opcode::BootReply).set_xid(XID).set_chaddr(&MAC.0).set_yiaddr([10, 0, 0, 5]);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        message.opts_mut().insert(DhcpOption::ServerIdentifier([10, 0, 0, 1].into()));
        message.opts_mut().insert(DhcpOption::SubnetMask([255, 255, 255, 0].into()));
        for option in more {
            message.opts_mut().insert(option.clone());
        }
        message
    }

    fn read(message: &Message) -> Option<Answer> {
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes)).unwrap();
        answer(&bytes, MAC, XID)
    }

    #[test]
    fn an_offer_is_read() {
        let offer = reply(
            MessageType::Offer,
            &[
                DhcpOption::Router(vec![[10, 0, 0, 254].into(), [10, 0, 0, 253].into()]),
                DhcpOption::Hostname("node7".to_owned()),
                DhcpOption::AddressLeaseTime(3600),
            ],
        );
        assert_eq!(
            read(&offer),
            Some(Answer::Offer(Lease {
                setting: Setting {
                    address: [10, 0, 0, 5].into(),
                    prefix: 24,
                    gateway: Some([10, 0, 0, 254].into()),
                },
                hostname: Some("node7".to_owned()),
                next_server: Some([10, 0, 0, 1].into()),
                server: [10, 0, 0, 1].into(),
                timers: Timers::new(3600, None, None),
            }))
        );
    }

    #[test]
    fn the_next_server_is_found_in_its_order() {
        let by_name = [DhcpOption::TFTPServerName(b"10.0.0.3".to_vec())];
        let no_address = [DhcpOption::TFTPServerName(b"golden".to_vec())];
        for (siaddr, options, expected) in [
            ([10, 0, 0, 2], &by_name[..], [10, 0, 0, 2]),
            ([0; 4], &by_name[..], [10, 0, 0, 3]),
            ([0; 4], &no_address[..], [10, 0, 0, 1]),
            ([0; 4], &[], [10, 0, 0, 1]),
        ] {
            let mut ack = reply(MessageType::Ack, options);
            ack.set_siaddr(siaddr);
            let Some(Answer::Ack(lease)) = read(&ack) else { panic!("{ack:?}") };
            assert_eq!(lease.next_server, Some(expected.into()));
        }
    }

    #[test]
    fn a_name_that_is_none_is_left_out() {
        for (name, expected) in
            [("node7.lab", Some("node7.lab")), ("", None), ("a\x1b[2J", None), ("a b", None)]
        {
            let ack = reply(MessageType::Ack, &[DhcpOption::Hostname(name.to_owned())]);
            let Some(Answer::Ack(lease)) = read(&ack) else { panic!("{ack:?}") };
            assert_eq!(lease.hostname.as_deref(), expected);
        }
    }

    #[test]
    fn options_that_are_not_as_they_should_be_cost_nothing() {
        let good = reply(MessageType::Offer, &[DhcpOption::Hostname("node7".to_owned())]);
        let mut bytes = Vec::new();
        good.encode(&mut Encoder::new(&mut bytes)).unwrap();
        let end = bytes.iter().rposition(|b| *b == 255).unwrap();
        // A time of a leasequery, a client's name and a status with too few bytes, a domain that is no UTF-8.
        for odd in [
            &[154, 1, 0][..],
            &[81, 0],
            &[151, 0],
            &[15, 3, 0xe4, 0xf6, 0xfc],
            &[3, 3, 1, 2, 3],
            &[51, 0],
            &[12],
        ] {
            let mut datagram = bytes[..end].to_vec();
            datagram.extend_from_slice(odd);
            datagram.push(255);
            assert_eq!(answer(&datagram, MAC, XID), read(&good), "{odd:?}");
        }
    }

    #[test]
    fn what_is_not_for_us_is_left_alone() {
        let good = || reply(MessageType::Offer, &[]);
        assert!(read(&good()).is_some());
        let mut strangers = vec![good(), good(), good(), good(), good(), good()];
        strangers[0].set_xid(XID + 1);
        strangers[1].set_chaddr(&[1; 6]);
        strangers[2].set_opcode(Opcode::BootRequest);
        strangers[3].set_yiaddr([0; 4]);
        strangers[4].opts_mut().remove(OptionCode::SubnetMask);
        strangers[5].opts_mut().remove(OptionCode::MessageType);
        for message in strangers {
            assert_eq!(read(&message), None, "{message:?}");
        }
        for length in 0..64 {
            assert_eq!(answer(&vec![0xff; length], MAC, XID), None);
        }
    }

    #[test]
    fn questions_say_what_rfc_2131_table_5_wants() {
        let Some(Answer::Offer(lease)) = read(&reply(MessageType::Offer, &[])) else { panic!() };
        let address = lease.setting.address;
        for (question, kind, ciaddr, requested, server, broadcast) in [
            (Question::Discover, MessageType::Discover, false, false, false, true),
            (Question::Request(&lease), MessageType::Request, false, true, true, true),
            (Question::Renew(&lease), MessageType::Request, true, false, false, false),
            (Question::Rebind(&lease), MessageType::Request, true, false, false, false),
        ] {
            let bytes = question.packet(MAC, XID, Duration::from_secs(3)).unwrap();
            let message = Message::decode(&mut Decoder::new(&bytes)).unwrap();
            let options = message.opts();
            assert_eq!(options.msg_type(), Some(kind), "{question:?}");
            assert_eq!(message.ciaddr() == address, ciaddr, "{question:?}");
            assert_eq!(options.contains(OptionCode::RequestedIpAddress), requested, "{question:?}");
            assert_eq!(options.contains(OptionCode::ServerIdentifier), server, "{question:?}");
            assert_eq!(message.flags().broadcast(), broadcast, "{question:?}");
            assert_eq!((message.secs(), message.chaddr()), (3, &MAC.0[..]));
        }
    }
}
