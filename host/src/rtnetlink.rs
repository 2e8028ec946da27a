//! Links, addresses and routes, through the kernel's rtnetlink(7).

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use ka::ipv4::prefix_mask;
use ka::mac::Mac;

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination network.
    pub to: Ipv4Addr,
    /// The length of its prefix.
    pub prefix: u8,
    /// The router; `None` for a directly connected network.
    pub via: Option<Ipv4Addr>,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index, by which the kernel refers to it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, if it is Ethernet.
    pub mac: Option<Mac>,
    /// The permanent hardware address, if the kernel reports it.
    pub permanent: Option<Mac>,
    /// Whether it is up and the cable has a carrier.
    pub carrier: bool,
    /// How often the carrier has come up; 0 if the kernel does not report it.
    pub carrier_ups: u32,
    /// The MTU.
    pub mtu: u32,
}

/// A netlink socket. Every call waits for the kernel's answer.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// # Errors
    /// The kernel refuses the socket.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// All links, in the kernel's order.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let answers = self.ask(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        let mut links: Vec<Link> = answers.into_iter().filter_map(link).collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// Sets the link up.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn set_up(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.ask(RouteNetlinkMessage::SetLink(message), NLM_F_ACK).map(drop)
    }

    /// Addresses, each with the index of its link.
    pub fn addresses(&mut self) -> io::Result<Vec<(u32, IpAddr)>> {
        let answers = self.ask(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
        Ok(answers.into_iter().filter_map(address).collect())
    }

    /// Adds an address; the kernel adds the route to its network.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let message = address_message(index, address, prefix);
        self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }

    /// Removes an address. The routes go with the last one.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn remove_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        self.ask(RouteNetlinkMessage::DelAddress(address_message(index, address, prefix)), NLM_F_ACK)
            .map(drop)
    }

    /// Sets a route. `on_link` is for a router outside our own networks.
    pub fn set_route(&mut self, index: u32, route: Route, on_link: bool) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Boot;
        message.header.scope = if route.via.is_some() { RouteScope::Universe } else { RouteScope::Link };
        message.header.kind = RouteType::Unicast;
        message.header.destination_prefix_length = route.prefix;
        if on_link {
            message.header.flags = RouteFlags::Onlink;
        }
        message.attributes = vec![RouteAttribute::Oif(index)];
        if route.prefix > 0 {
            message.attributes.push(RouteAttribute::Destination(IpAddr::V4(route.to).into()));
        }
        if let Some(via) = route.via {
            message.attributes.push(RouteAttribute::Gateway(IpAddr::V4(via).into()));
        }
        self.ask(RouteNetlinkMessage::NewRoute(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }

    /// Sets the MTU. The kernel refuses a value that the card does not support.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = vec![LinkAttribute::Mtu(mtu)];
        self.ask(RouteNetlinkMessage::SetLink(message), NLM_F_ACK).map(drop)
    }

    /// Creates the interface `name` for the frames of `link` tagged with `vlan`. It may exist already.
    pub fn add_vlan(&mut self, link: u32, name: &str, vlan: u16) -> io::Result<()> {
        match self.ask(vlan_message(link, name, vlan), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    fn ask(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(request));
        packet.finalize();
        let mut buffer = vec![0; packet.buffer_len()];
        packet.serialize(&mut buffer);
        self.socket.send(&buffer, 0)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let message: NetlinkMessage<RouteNetlinkMessage> = NetlinkMessage::deserialize(rest)
                    .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
                // Messages are padded to four bytes, except perhaps the last.
                let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(e) if e.code.is_none() => return Ok(answers),
                    NetlinkPayload::Error(e) => return Err(e.to_io()),
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    _ => {}
                }
            }
        }
    }
}

fn vlan_message(link: u32, name: &str, vlan: u16) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Link(link),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vlan),
            LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(vlan)])),
        ]),
    ];
    RouteNetlinkMessage::NewLink(message)
}

fn link(answer: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = answer else { return None };
    let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let (mut name, mut mac, mut permanent, mut mtu, mut carrier_ups) = (None, None, None, 0, 0);
    let address = |bytes: Vec<u8>| <[u8; 6]>::try_from(bytes).ok().map(Mac).filter(|_| ethernet);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text),
            LinkAttribute::Address(bytes) => mac = address(bytes),
            LinkAttribute::PermAddress(bytes) => permanent = address(bytes),
            LinkAttribute::Mtu(bytes) => mtu = bytes,
            LinkAttribute::CarrierUpCount(times) => carrier_ups = times,
            _ => {}
        }
    }
    let carrier = message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
    Some(Link { index: message.header.index, name: name?, mac, permanent, carrier, carrier_ups, mtu })
}

fn address(answer: RouteNetlinkMessage) -> Option<(u32, IpAddr)> {
    let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
    // On a point-to-point link, `Address` is the other end.
    let local = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    Some((message.header.index, local.or(any)?))
}

fn address_message(index: u32, address: Ipv4Addr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes =
        vec![AddressAttribute::Local(address.into()), AddressAttribute::Address(address.into())];
    if prefix < 31 {
        let broadcast = Ipv4Addr::from_bits(address.to_bits() | !prefix_mask(prefix).to_bits());
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As iproute2 requests it for `ip link add link 3 name eth0.5 type vlan id 5` (`ip -d`, strace). This
    /// kernel may not support VLANs.
    #[test]
    fn a_vlan_is_asked_for_as_the_kernel_wants_it() {
        let mut packet = NetlinkMessage::from(vlan_message(3, "eth0.5", 5));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        // After both headers: IFLA_IFNAME, IFLA_LINK, IFLA_LINKINFO { IFLA_INFO_KIND, IFLA_INFO_DATA {
        // IFLA_VLAN_ID } }.
        #[rustfmt::skip]
        let expected = [
            11, 0, 3, 0, b'e', b't', b'h', b'0', b'.', b'5', 0, 0,
            8, 0, 5, 0, 3, 0, 0, 0,
            28, 0, 18, 0,
                9, 0, 1, 0, b'v', b'l', b'a', b'n', 0, 0, 0, 0,
                12, 0, 2, 0, 6, 0, 1, 0, 5, 0, 0, 0,
        ];
        assert_eq!(bytes[32..], expected);
    }
}
