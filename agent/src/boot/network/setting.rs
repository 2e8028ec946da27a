//! The settings of an interface: address, routes, MTU.

use std::io;
use std::net::Ipv4Addr;

use ka::ipv4::prefix_mask;
use ka_host::rtnetlink::{Link, Netlink, Route};

/// Every link carries this MTU.
const USUAL_MTU: u16 = 1500;
/// Every host must accept datagrams of this length (RFC 791): a smaller MTU is a mistake.
const MIN_MTU: u16 = 576;

/// What an interface is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) address: Ipv4Addr,
    pub(super) prefix: u8,
    pub(super) gateway: Option<Ipv4Addr>,
    /// All routes except the default.
    pub(super) routes: Vec<Route>,
    pub(super) mtu: Option<u16>,
}

impl Setting {
    pub(super) fn apply(&self, netlink: &mut Netlink, link: &Link) -> io::Result<()> {
        self.apply_mtu(netlink, link);
        netlink.add_address(link.index, self.address, self.prefix)?;
        // Directly connected networks first: routers may be in them.
        let mut routes = self.routes.clone();
        routes.sort_by_key(|route| route.via.is_some());
        let default = self.gateway.map(|via| Route { to: Ipv4Addr::UNSPECIFIED, prefix: 0, via: Some(via) });
        for route in routes.iter().chain(&default) {
            let on_link = route.via.is_some_and(|via| !self.contains(via));
            netlink.set_route(link.index, *route, on_link)?;
        }
        let gateway = self.gateway.map_or_else(|| "no gateway".to_owned(), |g| format!("gateway {g}"));
        let routes = if self.routes.is_empty() {
            String::new()
        } else {
            format!(", {} other routes", self.routes.len())
        };
        log::info!("{}: address {}/{}, {gateway}{routes}", link.name, self.address, self.prefix);
        Ok(())
    }

    /// Removes the settings. The routes go with the last address.
    pub(super) fn remove(&self, netlink: &mut Netlink, link: &Link) -> io::Result<()> {
        netlink.remove_address(link.index, self.address, self.prefix)?;
        if self.mtu.is_some() {
            netlink.set_mtu(link.index, link.mtu)?;
        }
        Ok(())
    }

    /// A link that cannot carry the server's MTU keeps its own.
    fn apply_mtu(&self, netlink: &mut Netlink, link: &Link) {
        let Some(mtu) = self.mtu else { return };
        if mtu < MIN_MTU {
            log::warn!("{}: the DHCP server wants an MTU of {mtu}, less than {MIN_MTU}: ignored", link.name);
            return;
        }
        match netlink.set_mtu(link.index, mtu.into()) {
            Ok(()) if mtu == USUAL_MTU => {}
            Ok(()) => log::info!("{}: MTU {mtu}, as the DHCP server wants", link.name),
            Err(e) => log::warn!(
                "{}: the DHCP server wants an MTU of {mtu}, which the link does not support ({e}): keeping {}",
                link.name,
                link.mtu
            ),
        }
    }

    fn contains(&self, other: Ipv4Addr) -> bool {
        let mask = prefix_mask(self.prefix).to_bits();
        other.to_bits() & mask == self.address.to_bits() & mask
    }
}
