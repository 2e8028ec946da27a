//! Wake-on-LAN: a packet with the card's address sixteen times, and the card's password if it has one
//! (SecureOn).

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};

use ka::mac::Mac;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{setsockopt, sockopt::BindToDevice};

use super::target::Target;
use super::{Action, PowerError, State, Switch};
use crate::config::bmc::Wake;

/// The number of copies: a packet may get lost.
const TIMES: usize = 3;

/// A card that wakes its machine.
pub(super) struct Card<'a> {
    mac: Mac,
    wake: &'a Wake,
}

impl<'a> Card<'a> {
    pub(super) fn new(wake: &'a Wake, target: &Target) -> Result<Self, PowerError> {
        let mac = wake.mac.or(target.mac);
        let mac =
            mac.ok_or_else(|| PowerError::Unknown("its hardware address is not known to wake it by".into()))?;
        Ok(Self { mac, wake })
    }

    fn send(&self) -> io::Result<()> {
        let packet = packet(self.mac, self.wake.secure_on.as_deref());
        let mut sent = Err(io::Error::other("no network here has a broadcast address"));
        for (interface, address) in self.places()? {
            let outcome = send(&packet, interface.as_deref(), address, self.wake.port);
            // A network that is down must not prevent waking a machine on another.
            if sent.is_err() {
                sent = outcome;
            }
        }
        sent
    }

    /// The routes of the packets: the interface and the destination address.
    fn places(&self) -> io::Result<Vec<(Option<String>, Ipv4Addr)>> {
        let interface = self.wake.interface.clone();
        if let Some(address) = self.wake.broadcast {
            return Ok(vec![(interface, address)]);
        }
        if interface.is_some() {
            return Ok(vec![(interface, Ipv4Addr::BROADCAST)]);
        }
        let can = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_BROADCAST;
        let places = getifaddrs()?.filter(|it| it.flags.contains(can)).filter_map(|it| {
            let address = it.broadcast.as_ref()?.as_sockaddr_in()?.ip();
            Some((Some(it.interface_name), address))
        });
        Ok(places.collect())
    }
}

fn send(packet: &[u8], interface: Option<&str>, address: Ipv4Addr, port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
    socket.set_broadcast(true)?;
    let through = |name: &str| format!("through {name}");
    if let Some(interface) = interface {
        setsockopt(&socket, BindToDevice, &interface.into()).map_err(|e| {
            let error = io::Error::from(e);
            io::Error::new(error.kind(), format!("{}: {error}", through(interface)))
        })?;
    }
    for _ in 0..TIMES {
        socket.send_to(packet, SocketAddrV4::new(address, port)).map_err(|e| {
            let how = interface.map(through).unwrap_or_default();
            io::Error::new(e.kind(), format!("to {address} {how}: {e}"))
        })?;
    }
    Ok(())
}

/// AMD's "Magic Packet".
fn packet(mac: Mac, secure_on: Option<&[u8]>) -> Vec<u8> {
    let mut packet = vec![0xff; 6];
    packet.extend(std::iter::repeat_n(mac.0, 16).flatten());
    packet.extend_from_slice(secure_on.unwrap_or_default());
    packet
}

impl Switch for Card<'_> {
    fn status(&self) -> Result<State, PowerError> {
        Err(PowerError::Unsupported(
            "it has no [[bmc]], and its card does not report whether it is \
            on"
            .into(),
        ))
    }

    fn change(&self, action: Action) -> Result<State, PowerError> {
        if action != Action::On {
            let what = action.name();
            return Err(PowerError::Unsupported(format!(
                "it has no [[bmc]], and its card can only wake it, not '{what}'"
            )));
        }
        self.send()
            .map_err(|e| PowerError::Failed(format!("the packet that wakes it cannot be sent: {e}")))?;
        Ok(State::Woken)
    }

    /// The machine's firmware setup decides what it does when woken.
    fn network_once(&self) -> Result<(), PowerError> {
        Ok(())
    }

    fn can_look(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_has_the_address_sixteen_times_and_the_password_behind() {
        let mac = Mac([2, 3, 4, 5, 6, 7]);
        let plain = packet(mac, None);
        assert_eq!((plain.len(), &plain[..6], &plain[96..]), (102, &[0xff; 6][..], &mac.0[..]));
        assert_eq!(packet(mac, Some(&[1, 2, 3, 4]))[102..], [1, 2, 3, 4]);
    }
}
