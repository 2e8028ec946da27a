//! Whether this machine can reach the networks behind relays, and they can reach it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use super::Findings;
use crate::pxe::service::{Dhcp, Service};

/// Any port: nothing is sent.
const PORT: u16 = 67;

pub(super) fn check(service: &Service, findings: &mut Findings) {
    let relayed: Vec<(Ipv4Addr, Ipv4Addr)> = match &service.dhcp {
        Dhcp::Full(networks) => {
            if let [own, _, ..] = networks.as_slice()
                && own.router.is_none()
            {
                findings.warn(format!(
                    "{}: machines here are told no router, so they do not reach those behind relays, and one chain cannot \
                     have both: set router in the configuration's [pxe]",
                    service.interface
                ));
            }
            networks.iter().skip(1).filter_map(|n| Some((n.router?, n.netmask))).collect()
        }
        Dhcp::Proxy(networks) => networks.iter().skip(1).map(|n| (n.address, n.netmask)).collect(),
        Dhcp::Site => Vec::new(),
    };
    let own = service.address();
    for (router, netmask) in relayed {
        let network = Ipv4Addr::from_bits(router.to_bits() & netmask.to_bits());
        let prefix = netmask.to_bits().count_ones();
        let remedy = format!(
            "machines behind the relay {router} get no answer: `ip route add {network}/{prefix} via ROUTER dev {}`",
            service.interface
        );
        match source(router) {
            Ok(IpAddr::V4(source)) if source == own => {}
            Ok(source) => findings.warn(format!(
                "what goes to {network}/{prefix} leaves from {source}, and not from {own}; {remedy}"
            )),
            Err(error) => findings.warn(format!("no route to {network}/{prefix} ({error}); {remedy}")),
        }
    }
}

/// The source address that the kernel would use.
fn source(to: Ipv4Addr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((to, PORT))?;
    Ok(socket.local_addr()?.ip())
}
