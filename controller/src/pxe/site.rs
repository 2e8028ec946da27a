//! `kactl pxe config`: what a site's own servers need, to do a part or all of what `kactl pxe` does.

use super::menu::Settings;
use std::collections::BTreeSet;
use std::fmt::Write;

use ka::arch;
use ka::mac::Mac;

use super::loaders::Loader;
use super::service::Service;
use super::{ipxe, pxelinux};

/// A server that a site has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// ISC dhcpd.
    Dhcpd,
    /// Kea's DHCPv4 server.
    Kea,
    /// A TFTP server.
    Tftpd,
    /// The site's own dnsmasq.
    Dnsmasq,
    /// pxelinux on another server.
    Pxelinux,
}

/// The text for a server, with what a person has to know as comments in it.
#[must_use]
pub fn text(server: Server, service: &Service, settings: &Settings) -> String {
    match server {
        Server::Dhcpd => dhcpd(service),
        Server::Kea => kea(service),
        Server::Tftpd => tftpd(service),
        Server::Dnsmasq => dnsmasq(service),
        Server::Pxelinux => pxelinux(settings),
    }
}

/// The machines that find something to boot here.
const SERVED: arch::Dhcp = arch::THIS.dhcp;
/// A PC BIOS says this; no other processor has one.
const BIOS: u16 = 0;

const AS_SITE: &str =
    "Then start `kactl pxe --no-dhcp` here: it serves the files, and decides for each machine.";

/// The loaders, first those of single machines.
fn loaders(service: &Service) -> impl Iterator<Item = (Option<&BTreeSet<Mac>>, &Loader)> {
    let own = service.loaders.own.iter().map(|(loader, machines)| (Some(machines), loader));
    own.chain(std::iter::once((None, &service.loaders.common)))
}

/// See dhcpd.conf(5) and dhcp-eval(5).
fn dhcpd(service: &Service) -> String {
    let address = service.address();
    let file = by_machine(service, 2, |loader| {
        let or_ipxe = |file: &str| {
            format!(
                "if exists user-class and option user-class = \"iPXE\" {{\n  filename \"{}\";\n}} else {{\n  \
                 filename \"{file}\";\n}}\n",
                ipxe::ENTRY
            )
        };
        let bios = match loader.bios_is_ipxe() {
            true => or_ipxe(loader.bios),
            false => format!("filename \"{}\";\n", loader.bios),
        };
        let uefi = loader.uefi.as_deref().map(or_ipxe).map_or_else(String::new, |text| {
            format!(
                " elsif option ka-architecture = 7 or option ka-architecture = 9 {{\n{}}}",
                indented(&text, 2)
            )
        });
        // An old ROM may say nothing of its architecture.
        format!(
            "if option ka-architecture = {BIOS} or not exists ka-architecture {{\n{}}}{uefi}\n",
            indented(&bios, 2)
        )
    });
    let url = by_machine(service, 2, |loader| match &loader.uefi {
        Some(file) => format!("filename \"http://{address}:{}/{file}\";\n", service.http),
        None => String::new(),
    });
    let http_type = SERVED.uefi_http;
    format!(
        "\
# For /etc/dhcp/dhcpd.conf, in front of the subnets.
# {AS_SITE}
option ka-architecture code 93 = unsigned integer 16;

class \"ka-pxe\" {{
  match if substring(option vendor-class-identifier, 0, 9) = \"PXEClient\";
  next-server {address};
{file}}}

class \"ka-http\" {{
  match if substring(option vendor-class-identifier, 0, 21) = \"HTTPClient:Arch:{http_type:05}\";
  option vendor-class-identifier \"HTTPClient\";
{url}}}
"
    )
}

/// The text for each group of machines, in a chain of conditions.
fn by_machine(service: &Service, depth: usize, text: impl Fn(&Loader) -> String) -> String {
    let mut chain = String::new();
    for (machines, loader) in loaders(service) {
        let text = text(loader);
        // Writing to a String never fails.
        let _ = match machines {
            Some(machines) => {
                let is: Vec<_> = machines.iter().map(|mac| format!("hardware = 1:{mac}")).collect();
                let word = if chain.is_empty() { "if" } else { " elsif" };
                write!(chain, "{word} {} {{\n{}}}", is.join(" or "), indented(&text, 2))
            }
            None if chain.is_empty() => write!(chain, "{text}"),
            None => writeln!(chain, " else {{\n{}}}", indented(&text, 2)),
        };
    }
    indented(&chain, depth)
}

fn indented(text: &str, depth: usize) -> String {
    text.lines().map(|line| format!("{:depth$}{line}\n", "")).collect()
}

/// See Kea's manual, "Client Classification": the tests exclude each other, so the order of the classes says
/// nothing.
fn kea(service: &Service) -> String {
    let (address, http) = (service.address(), service.http);
    let mut classes = Vec::new();
    let all_own: BTreeSet<Mac> =
        service.loaders.own.iter().flat_map(|(_, machines)| machines.clone()).collect();
    let one_of = |machines: &BTreeSet<Mac>| {
        let tests: Vec<_> = machines
            .iter()
            .map(|mac| format!("pkt4.mac == 0x{}", mac.to_string().replace(':', "")))
            .collect();
        tests.join(" or ")
    };
    for (number, (machines, loader)) in loaders(service).enumerate() {
        let (suffix, who) = match machines {
            Some(machines) => (format!("-own{number}"), format!(" and ({})", one_of(machines))),
            None if all_own.is_empty() => (String::new(), String::new()),
            None => (String::new(), format!(" and not ({})", one_of(&all_own))),
        };
        let mut class = |name: &str, test: &str, file: &str, more: &str| {
            classes.push(format!(
                "      {{
        \"name\": \"ka-{name}{suffix}\",
        \"test\": \"{test}{who}\",
        \"next-server\": \"{address}\",{more}
        \"boot-file-name\": \"{file}\"
      }}"
            ));
        };
        let rom = "not option[93].exists and substring(option[60].hex,0,9) == 'PXEClient'";
        let bios = format!("(option[93].hex == 0x{BIOS:04x} or ({rom}))");
        if loader.bios_is_ipxe() {
            class("bios", &format!("{bios} and not option[175].exists"), loader.bios, "");
            class("bios-ipxe", &format!("{bios} and option[175].exists"), ipxe::ENTRY, "");
        } else {
            class("bios", &bios, loader.bios, "");
        }
        if let Some(file) = &loader.uefi {
            let is: Vec<_> =
                SERVED.uefi.iter().map(|number| format!("option[93].hex == 0x{number:04x}")).collect();
            let uefi = format!("({})", is.join(" or "));
            class("uefi", &format!("{uefi} and not option[175].exists"), file, "");
            class("uefi-ipxe", &format!("{uefi} and option[175].exists"), ipxe::ENTRY, "");
            let vendor = "
        \"option-data\": [
          { \"name\": \"vendor-class-identifier\", \"data\": \"HTTPClient\", \"always-send\": true }
        ],";
            class(
                "uefi-http",
                "option[93].hex == 0x0010",
                &format!("http://{address}:{http}/{file}"),
                vendor,
            );
        }
    }
    format!(
        "\
// For Kea's DHCPv4 server: put these classes into \"Dhcp4\" of /etc/kea/kea-dhcp4.conf.
// {AS_SITE}
{{
  \"Dhcp4\": {{
    \"client-classes\": [
{}
    ]
  }}
}}
",
        classes.join(",\n")
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
    let (mut bios, mut uefi) = (BTreeSet::new(), BTreeSet::new());
    for (_, loader) in loaders(service) {
        bios.insert(loader.bios);
        uefi.extend(loader.uefi.as_deref());
    }
    let joined = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(" ");
    format!(
        "\
# A TFTP server that takes the place of `kactl pxe` serves these files of {root}, under the same names:
#   vmlinuz all.rdz              made by `kactl image`; all.rdz has the join key in it
#   {} ldlinux.c32      for BIOS, with {}/
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
        joined(bios),
        pxelinux::DIRECTORY,
        joined(uefi),
        ipxe::ENTRY,
        ipxe::DIRECTORY,
    )
}

fn pxelinux(settings: &Settings) -> String {
    // The name of the session is left out: stage1 then asks for the usual one.
    let text = pxelinux::for_a_site(settings, &settings.booting);
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
    use crate::config::pxe::{BiosLoader, Booting, Ipxe, Pxe};
    use crate::pxe::interface::Network;
    use crate::pxe::loaders::Loaders;
    use crate::pxe::menu::tests::settings;
    use crate::pxe::service::Dhcp;
    use std::net::Ipv4Addr;
    use std::process::Command;

    fn service(pxe: &Pxe) -> Service {
        Service {
            interface: "eth1".into(),
            network: Network {
                address: Ipv4Addr::new(10, 0, 0, 1),
                netmask: Ipv4Addr::new(255, 255, 255, 0),
            },
            dhcp: Dhcp::Site,
            loaders: Loaders::find(pxe).unwrap(),
            http: 30766,
            tftp_root: "/var/lib/ka/boot".into(),
            run: "/run/ka".into(),
        }
    }

    fn with_own() -> Pxe {
        let own = Booting { bios: BiosLoader::Undionly, ipxe: Ipxe::Ipxe, ..Booting::default() };
        let tftp = Booting { bios: BiosLoader::Pxelinux, ..Booting::default() };
        let machines = [(1, &own), (2, &tftp), (3, &own)];
        let machines =
            machines.map(|(n, booting)| (format!("52:54:00:00:00:0{n}").parse().unwrap(), booting.clone()));
        Pxe { machines: machines.into(), ..Pxe::default() }
    }

    #[test]
    fn every_server_is_told_where_the_files_are() {
        for (server, words) in [
            (
                Server::Dhcpd,
                &[
                    "next-server 10.0.0.1;",
                    "\"lpxelinux.0\"",
                    "\"boot.ipxe\"",
                    "http://10.0.0.1:30766/snponly.efi",
                ][..],
            ),
            (
                Server::Kea,
                &["\"next-server\": \"10.0.0.1\"", "http://10.0.0.1:30766/snponly.efi", "--no-dhcp"][..],
            ),
            (Server::Tftpd, &["/var/lib/ka/boot", "lpxelinux.0 ldlinux.c32", "server_args"][..]),
            (Server::Dnsmasq, &["dhcp-boot=tag:uefi,tag:ipxe,boot.ipxe,,10.0.0.1", "--no-dhcp"][..]),
            (
                Server::Pxelinux,
                &["DEFAULT local", "LABEL kamethod", "ka.server=10.0.0.1\n", "IPAPPEND 2"][..],
            ),
        ] {
            let text = text(server, &service(&Pxe::default()), &settings());
            for word in words {
                assert!(text.contains(word), "{word} is missing in {text}");
            }
        }
    }

    #[test]
    fn kea_accepts_its_configuration() {
        for pxe in [Pxe::default(), with_own()] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text(Server::Kea, &service(&pxe), &settings())).unwrap();
            let judged = Command::new("kea-dhcp4").arg("-t").arg(file.path()).output();
            let judged = judged.expect("kea-dhcp4 is needed: apt-get install kea-dhcp4-server");
            let said = String::from_utf8_lossy(&judged.stdout) + String::from_utf8_lossy(&judged.stderr);
            assert!(judged.status.success() && !said.contains("ERROR"), "{said}");
        }
    }

    #[test]
    fn a_machine_of_its_own_is_told_its_own_loader() {
        let service = service(&with_own());
        let dhcpd = text(Server::Dhcpd, &service, &settings());
        let hardware = "if hardware = 1:52:54:00:00:00:01 or hardware = 1:52:54:00:00:00:03 {\n";
        assert!(
            dhcpd.contains(hardware) && dhcpd.contains("if hardware = 1:52:54:00:00:00:02 {\n"),
            "{dhcpd}"
        );
        let kea = text(Server::Kea, &service, &settings());
        assert!(kea.contains("and (pkt4.mac == 0x525400000001 or pkt4.mac == 0x525400000003)"), "{kea}");
    }
}
