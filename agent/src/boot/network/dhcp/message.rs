//! The messages of a DHCP client, and the parsing of a server's answers: RFC 2131 and RFC 2132.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{DhcpOption, DhcpOptions, Flags, HType, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};

use super::super::setting::Setting;
use super::machine::Machine;
use super::options::{HEADER, Options, classful_prefix};
use super::timers::Timers;
use ka::ipv4::prefix_of;
use ka::mac::Mac;
use ka_host::rtnetlink::Route;

/// Relays and servers drop packets shorter than BOOTP's minimum (RFC 1542, 2.1).
const SHORTEST: usize = 300;

/// The maximum message size that we accept: what fits into an Ethernet frame.
const MAX_LENGTH: u16 = 1472;

/// A lease that a server offers or has granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Lease {
    pub(in super::super) setting: Setting,
    pub(in super::super) hostname: Option<String>,
    pub(in super::super) next_server: Option<Ipv4Addr>,
    /// The server that granted it.
    pub(super) server: Ipv4Addr,
    /// `None` if it never expires.
    pub(super) timers: Option<Timers>,
    /// Whether the server sent the mask; otherwise it is the default of the address class.
    mask_told: bool,
}

impl Lease {
    /// Keeps the values of `old` that the server left out when it renewed the lease: a network must not
    /// change during a run because an answer is short.
    pub(super) fn after(mut self, old: &Setting) -> Self {
        let new = &mut self.setting;
        if new.address == old.address {
            if !self.mask_told {
                new.prefix = old.prefix;
            }
            if new.gateway.is_none() && new.routes.is_empty() {
                new.gateway = old.gateway;
                new.routes.clone_from(&old.routes);
            }
            new.mtu = new.mtu.or(old.mtu);
        }
        self
    }
}

/// A server's answer to one of our questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Offer(Lease),
    Ack(Lease),
    /// The address is not ours, or no longer.
    Nak {
        /// The server, if it identifies itself.
        server: Option<Ipv4Addr>,
        /// Its reason.
        reason: String,
    },
}

/// The client's question.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question<'a> {
    /// An offer, from any server.
    Discover,
    /// The address that was offered.
    Request(&'a Lease),
    /// A renewal, from the server that granted the lease.
    Renew(&'a Lease),
    /// A renewal, from any server.
    Rebind(&'a Lease),
    /// A refusal: another machine uses the granted address.
    Decline(&'a Lease),
}

impl Question<'_> {
    /// The datagram, sent `elapsed` after the first one of this exchange; `as_rom` imitates a network ROM.
    pub(super) fn packet(
        &self,
        mac: Mac,
        xid: u32,
        elapsed: Duration,
        machine: &Machine,
        as_rom: bool,
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
            Self::Decline(_) => MessageType::Decline,
            _ => MessageType::Request,
        };
        // Type 1 and the hardware address: the same identity that network ROMs use, so the same lease.
        let identity = std::iter::once(1).chain(mac.0).collect();
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ClientIdentifier(identity));
        match self {
            Self::Decline(_) => {}
            _ => describe(options, machine, as_rom),
        }
        match self {
            Self::Discover => {}
            Self::Request(offer) | Self::Decline(offer) => {
                options.insert(DhcpOption::RequestedIpAddress(offer.setting.address));
                options.insert(DhcpOption::ServerIdentifier(offer.server));
            }
            Self::Renew(lease) | Self::Rebind(lease) => {
                message.set_ciaddr(lease.setting.address);
            }
        }
        // A unicast answer to an unconfigured address can be received too, but not every kernel has packet
        // sockets.
        if matches!(self, Self::Discover | Self::Request(_)) {
            message.set_flags(Flags::default().set_broadcast());
        }
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes))?;
        bytes.resize(bytes.len().max(SHORTEST), OptionCode::Pad.into());
        Ok(bytes)
    }
}

/// The parameters requested, and the client's description; in all messages but DECLINE (RFC 2131, table 5).
fn describe(options: &mut DhcpOptions, machine: &Machine, as_rom: bool) {
    options.insert(DhcpOption::ParameterRequestList(vec![
        // Before the routers, as RFC 3442 requires.
        OptionCode::ClasslessStaticRoute,
        OptionCode::SubnetMask,
        OptionCode::Router,
        OptionCode::InterfaceMtu,
        OptionCode::Hostname,
        OptionCode::AddressLeaseTime,
        OptionCode::ServerIdentifier,
        OptionCode::Renewal,
        OptionCode::Rebinding,
        OptionCode::TFTPServerName,
    ]));
    options.insert(DhcpOption::MaxMessageSize(MAX_LENGTH));
    options.insert(DhcpOption::ClientSystemArchitecture(machine.architecture.into()));
    if let Some(uuid) = machine.uuid {
        // Type 0, the only one (RFC 4578, 2.3).
        options.insert(DhcpOption::ClientMachineIdentifier(std::iter::once(0).chain(uuid).collect()));
    }
    if as_rom {
        options.insert(DhcpOption::ClassIdentifier(machine.rom_class().into_bytes()));
    }
}

/// Parses a datagram; `None` if it does not answer us, or offers nothing usable.
pub(super) fn answer(datagram: &[u8], mac: Mac, xid: u32) -> Option<Answer> {
    // Only the fixed fields: the options are read one by one.
    let mut header = datagram.get(..HEADER)?.to_vec();
    header.push(OptionCode::End.into());
    let message = Message::decode(&mut Decoder::new(&header)).ok()?;
    if message.opcode() != Opcode::BootReply || message.xid() != xid || message.chaddr() != mac.0 {
        return None;
    }
    let options = Options::read(datagram)?;
    match MessageType::from(options.byte(OptionCode::MessageType.into())?) {
        MessageType::Offer => lease(&message, &options).map(Answer::Offer),
        MessageType::Ack => lease(&message, &options).map(Answer::Ack),
        MessageType::Nak => Some(Answer::Nak {
            server: options.address(OptionCode::ServerIdentifier.into()),
            reason: match options.text(OptionCode::Message.into()) {
                Some(reason) => reason.escape_debug().to_string(),
                None => "no reason given".to_owned(),
            },
        }),
        _ => None,
    }
}

fn lease(message: &Message, options: &Options) -> Option<Lease> {
    let address = message.yiaddr();
    // A proxy for network ROMs answers without an address (PXE specification, 2.2).
    if address.is_unspecified() {
        return None;
    }
    let server = options.address(OptionCode::ServerIdentifier.into())?;
    let told = options.address(OptionCode::SubnetMask.into()).and_then(prefix_of);
    let Some(prefix) = told.or_else(|| classful_prefix(address)) else {
        log::warn!("DHCP server {server} offers {address}, which is not a host address: ignored");
        return None;
    };
    if told.is_none() {
        log::warn!(
            "DHCP server {server} offers {address} without a usable subnet mask: using {address}/{prefix}"
        );
    }
    let (gateway, routes) = routes(options, server);
    let hostname = options.text(OptionCode::Hostname.into());
    Some(Lease {
        setting: Setting {
            address,
            prefix,
            gateway,
            routes,
            mtu: options.short(OptionCode::InterfaceMtu.into()),
        },
        hostname: hostname.filter(|name| is_hostname(name)).map(str::to_owned),
        next_server: Some(next_server(message, options, server)),
        server,
        timers: options.number(OptionCode::AddressLeaseTime.into()).and_then(|duration| {
            Timers::new(
                duration,
                options.number(OptionCode::Renewal.into()),
                options.number(OptionCode::Rebinding.into()),
            )
        }),
        mask_told: told.is_some(),
    })
}

/// The default gateway and the other routes. If there are classless routes, option 3 is ignored, even without
/// a default route among them (RFC 3442).
fn routes(options: &Options, server: Ipv4Addr) -> (Option<Ipv4Addr>, Vec<Route>) {
    match options.routes(OptionCode::ClasslessStaticRoute.into()) {
        Ok(Some(mut routes)) => {
            let default = routes.iter().find(|route| route.prefix == 0).and_then(|route| route.via);
            routes.retain(|route| route.prefix != 0);
            return (default, routes);
        }
        Ok(None) => {}
        Err(reason) => {
            log::warn!(
                "DHCP server {server} sends malformed classless routes (option 121): {reason}; ignored"
            );
        }
    }
    let router = options.first_address(OptionCode::Router.into());
    (router.filter(|router| !router.is_unspecified()), Vec::new())
}

/// RFC 1123, 2.1, plus underscores, which sites do use. Anything else would end up in logs and on terminals.
fn is_hostname(name: &str) -> bool {
    (1..=253).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

/// The server for the next boot step: the header's field, else option 66 if it is an address, else the DHCP
/// server itself.
fn next_server(message: &Message, options: &Options, server: Ipv4Addr) -> Ipv4Addr {
    let option = options.text(OptionCode::TFTPServerName.into()).and_then(|name| name.parse().ok());
    Some(message.siaddr()).filter(|address| !address.is_unspecified()).or(option).unwrap_or(server)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhcproto::v4::UnknownOption;

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
                    routes: Vec::new(),
                    mtu: None,
                },
                hostname: Some("node7".to_owned()),
                next_server: Some([10, 0, 0, 1].into()),
                server: [10, 0, 0, 1].into(),
                timers: Timers::new(3600, None, None),
                mask_told: true,
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
            // Options for network ROMs only: vendor options, a server's and a file's name.
            &[43, 3, 6, 1, 8],
            &[66, 4, 0xff, 0, 0xfe, 1],
            &[67, 0],
            // Classless routes that are cut off, an MTU of one byte.
            &[121, 3, 33, 1, 2],
            &[26, 1, 5],
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
        let mut strangers = vec![good(); 6];
        strangers[0].set_xid(XID + 1);
        strangers[1].set_chaddr(&[1; 6]);
        strangers[2].set_opcode(Opcode::BootRequest);
        strangers[3].set_yiaddr([0; 4]);
        strangers[4].opts_mut().remove(OptionCode::ServerIdentifier);
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
            let machine = Machine { architecture: 7, uuid: Some([9; 16]) };
            let bytes = question.packet(MAC, XID, Duration::from_secs(3), &machine, false).unwrap();
            assert!(bytes.len() >= SHORTEST, "{question:?}: {} bytes", bytes.len());
            let message = Message::decode(&mut Decoder::new(&bytes)).unwrap();
            let options = message.opts();
            assert_eq!(options.msg_type(), Some(kind), "{question:?}");
            assert_eq!(message.ciaddr() == address, ciaddr, "{question:?}");
            assert_eq!(options.contains(OptionCode::RequestedIpAddress), requested, "{question:?}");
            assert_eq!(options.contains(OptionCode::ServerIdentifier), server, "{question:?}");
            assert_eq!(message.flags().broadcast(), broadcast, "{question:?}");
            assert_eq!((message.secs(), message.chaddr()), (3, &MAC.0[..]));
            let sent = Options::read(&bytes).unwrap();
            assert_eq!(sent.get(93), Some(&[0, 7][..]));
            assert_eq!(sent.get(97).map(<[u8]>::len), Some(17));
            assert_eq!(sent.get(60), None);
            let bytes = question.packet(MAC, XID, Duration::ZERO, &machine, true).unwrap();
            assert_eq!(Options::read(&bytes).unwrap().text(60), Some("PXEClient:Arch:00007:UNDI:003016"));
        }
    }

    #[test]
    fn what_is_declined_is_named_as_rfc_2131_table_5_wants() {
        let Some(Answer::Ack(lease)) = read(&reply(MessageType::Ack, &[])) else { panic!() };
        let machine = Machine { architecture: 7, uuid: Some([9; 16]) };
        let bytes = Question::Decline(&lease).packet(MAC, XID, Duration::ZERO, &machine, true).unwrap();
        let message = Message::decode(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!((message.ciaddr(), message.flags().broadcast()), (Ipv4Addr::UNSPECIFIED, false));
        let sent = Options::read(&bytes).unwrap();
        assert_eq!(sent.get(53), Some(&[4][..]));
        assert_eq!(sent.address(50), Some(lease.setting.address));
        assert_eq!(sent.address(54), Some(lease.server));
        assert!([55, 57, 60, 93, 97].iter().all(|code| sent.get(*code).is_none()), "{sent:?}");
        assert!(bytes.len() >= SHORTEST);
    }

    #[test]
    fn classless_routes_count_in_place_of_the_router() {
        let router = DhcpOption::Router(vec![[10, 0, 0, 254].into()]);
        let (default, other) = (&[0, 10, 0, 0, 253][..], &[16, 10, 9, 10, 0, 0, 253][..]);
        let via = Some(Ipv4Addr::new(10, 0, 0, 253));
        for (routes, gateway, others) in
            [([default, other].concat(), via, 1), (other.to_vec(), None, 1), (default.to_vec(), via, 0)]
        {
            let routes = UnknownOption::new(OptionCode::ClasslessStaticRoute, routes);
            let ack = reply(MessageType::Ack, &[router.clone(), DhcpOption::Unknown(routes)]);
            let Some(Answer::Ack(lease)) = read(&ack) else { panic!("{ack:?}") };
            assert_eq!((lease.setting.gateway, lease.setting.routes.len()), (gateway, others));
        }
    }

    #[test]
    fn a_short_answer_changes_nothing() {
        let full = [DhcpOption::Router(vec![[10, 0, 0, 254].into()]), DhcpOption::InterfaceMtu(1400)];
        let Some(Answer::Ack(old)) = read(&reply(MessageType::Ack, &full)) else { panic!() };
        let mut short = reply(MessageType::Ack, &[]);
        short.opts_mut().remove(OptionCode::SubnetMask);
        let Some(Answer::Ack(new)) = read(&short) else { panic!() };
        assert_eq!((new.setting.prefix, new.setting.gateway), (8, None));
        assert_eq!(new.after(&old.setting).setting, old.setting);
    }
}
