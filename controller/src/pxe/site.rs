//! `kactl pxe config`: what a site's own servers need, to do a part or all of what `kactl pxe` does.

use super::menu::{Boot, Settings};
use super::service::Service;
use super::{ipxe, pxelinux};

/// A server that a site has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Server {
    /// ISC dhcpd: says what to boot
    Dhcpd,
    /// A TFTP server: serves the boot files itself
    Tftpd,
    /// The site's own dnsmasq: says what to boot
    Dnsmasq,
    /// pxelinux, served by somebody else: its pxelinux.cfg/default
    Pxelinux,
}

/// The text for a server, with what a person has to know as comments in it.
#[must_use]
pub fn text(server: Server, service: &Service, settings: &Settings) -> String {
    match server {
        Server::Dhcpd => dhcpd(service),
        Server::Tftpd => tftpd(service),
        Server::Dnsmasq => dnsmasq(service),
        Server::Pxelinux => pxelinux(settings),
    }
}

const AS_SITE: &str =
    "Then start `kactl pxe --no-dhcp` here: it serves the files, and decides for each machine.";

/// See dhcpd.conf(5) and dhcp-eval(5).
fn dhcpd(service: &Service) -> String {
    let (address, http) = (service.address(), service.http);
    let (bios, loader, entry) = (pxelinux::LOADER, ipxe::LOADER, ipxe::ENTRY);
    format!(
        "\
# For /etc/dhcp/dhcpd.conf, in front of the subnets.
# {AS_SITE}
option ka-architecture code 93 = unsigned integer 16;

class \"ka-pxe\" {{
  match if substring(option vendor-class-identifier, 0, 9) = \"PXEClient\";
  next-server {address};
  if option ka-architecture = 7 or option ka-architecture = 9 {{
    if exists user-class and option user-class = \"iPXE\" {{
      filename \"{entry}\";
    }} else {{
      filename \"{loader}\";
    }}
  }} else {{
    filename \"{bios}\";
  }}
}}

class \"ka-http\" {{
  match if substring(option vendor-class-identifier, 0, 21) = \"HTTPClient:Arch:00016\";
  option vendor-class-identifier \"HTTPClient\";
  filename \"http://{address}:{http}/{loader}\";
}}
"
    )
}

fn dnsmasq(service: &Service) -> String {
    format!(
        "\
# For the site's dnsmasq, such as /etc/dnsmasq.d/ka.conf; see dnsmasq(8).
# {AS_SITE}
{}",
        service.for_a_sites_dnsmasq()
    )
}

/// See tftpd(8) of tftpd-hpa and xinetd.conf(5).
fn tftpd(service: &Service) -> String {
    let root = service.tftp_root.display();
    format!(
        "\
# A TFTP server that takes the place of `kactl pxe` serves these files of {root}, under the same names:
#   vmlinuz all.rdz              made by `kactl image`; all.rdz has the join key in it
#   {} ldlinux.c32       for BIOS, with {}/
#   {} {}        for UEFI, with {}/
# Nobody then follows the runs: see `kactl pxe config pxelinux`, and set the default back before the nodes reboot.

# tftpd-hpa, /etc/default/tftpd-hpa:
TFTP_USERNAME=\"tftp\"
TFTP_DIRECTORY=\"/srv/tftp\"
TFTP_ADDRESS=\":69\"
TFTP_OPTIONS=\"--secure\"

# xinetd, /etc/xinetd.d/tftp:
service tftp
{{
    disable     = no
    socket_type = dgram
    protocol    = udp
    wait        = yes
    user        = root
    server      = /usr/sbin/in.tftpd
    server_args = --secure /srv/tftp
}}
",
        pxelinux::LOADER,
        pxelinux::DIRECTORY,
        ipxe::LOADER,
        ipxe::ENTRY,
        ipxe::DIRECTORY,
    )
}

fn pxelinux(settings: &Settings) -> String {
    // The name of the session is left out: stage1 then asks for the usual one.
    let text = pxelinux::render(&Boot::Local, settings);
    let (_, text) = text.split_once('\n').unwrap_or_default();
    format!(
        "\
# For pxelinux.cfg/default of a pxelinux that somebody else serves.
# DEFAULT kamethod clones every machine that boots while a run waits. Set it back to local before the nodes
# reboot, or use `kactl pxe --proxy` or `kactl pxe --no-dhcp`, which decide for each machine.
{text}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pxe::interface::Network;
    use crate::pxe::service::Dhcp;
    use std::net::Ipv4Addr;

    #[test]
    fn every_server_is_told_where_the_files_are() {
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let service = Service {
            interface: "eth1".into(),
            network: Network { address, netmask: Ipv4Addr::new(255, 255, 255, 0) },
            dhcp: Dhcp::Site,
            uefi: true,
            http: 30766,
            tftp_root: "/var/lib/ka/boot".into(),
            run: "/run/ka".into(),
        };
        let settings = Settings {
            address,
            port: None,
            http: 30766,
            console: "console=ttyS0".into(),
            vlan: None,
            by_hand: None,
        };
        for (server, words) in [
            (
                Server::Dhcpd,
                &[
                    "next-server 10.0.0.1;",
                    "\"pxelinux.0\"",
                    "\"boot.ipxe\"",
                    "http://10.0.0.1:30766/snponly.efi",
                ][..],
            ),
            (Server::Tftpd, &["/var/lib/ka/boot", "pxelinux.0 ldlinux.c32", "server_args"][..]),
            (Server::Dnsmasq, &["dhcp-boot=tag:uefi,tag:ipxe,boot.ipxe,,10.0.0.1", "--no-dhcp"][..]),
            (
                Server::Pxelinux,
                &["DEFAULT local", "LABEL kamethod", "ka.server=10.0.0.1\n", "IPAPPEND 2"][..],
            ),
        ] {
            let text = text(server, &service, &settings);
            for word in words {
                assert!(text.contains(word), "{word} is missing in {text}");
            }
        }
    }
}
