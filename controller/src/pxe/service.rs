//! What dnsmasq is to serve, and its configuration: as the wire's DHCP server, beside a site's own, or
//! without any DHCP.
//!
//! Machines are told apart by option 93, the client's architecture (RFC 4578, and IANA's list of processor
//! architecture types): BIOS gets pxelinux, 64-bit x86 UEFI gets iPXE, iPXE itself (option 175) its script,
//! and machines that find nothing to boot here get no offer at all.

use std::fmt::{Arguments, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use ka::arch;

use super::interface::{Addresses, Network};
use super::ipxe;
use super::loaders::{Loader, Loaders};

/// The machines that find something to boot here.
const SERVED: arch::Dhcp = arch::THIS.dhcp;
/// Transfers over TFTP at the same time. One that its machine has given up takes a place for half a minute.
const MAX_TFTP: u32 = 4000;

/// Who gives addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dhcp {
    /// We do, and nobody else may on these networks: first the interface's own, then those behind relays.
    Full(Vec<Addresses>),
    /// The site's server does; we only say what to boot, on the interface's network and those behind relays.
    Proxy(Vec<Network>),
    /// The site's server does, and says what to boot as well.
    Site,
}

/// What dnsmasq is to serve.
#[derive(Clone, Debug)]
pub struct Service {
    /// The only interface.
    pub interface: String,
    /// Our address on it.
    pub network: Network,
    /// Who gives addresses.
    pub dhcp: Dhcp,
    /// What machines load.
    pub loaders: Loaders,
    /// The port at which the same files are had over HTTP.
    pub http: u16,
    /// What TFTP serves.
    pub tftp_root: PathBuf,
    /// dnsmasq's own directory, for its leases.
    pub run: PathBuf,
}

impl Service {
    /// The configuration file's text; see dnsmasq(8).
    ///
    /// - No DNS, and no other interface, not even the loop.
    /// - It never changes its user: it starts as the right one ([`super::confine`]).
    /// - A machine keeps one address. The card's ROM, iPXE, the agent and the installed system send different
    ///   client identifiers, and would take four. No address is pinged before it is offered: that takes 3 s
    ///   each, one after the other.
    #[must_use]
    pub fn config(&self) -> String {
        let Self { interface, tftp_root, run, .. } = self;
        let mut text = Lines("# Written by kactl pxe.\n".into());
        for setting in ["keep-in-foreground", "log-facility=-", "user=root", "group=root"] {
            text.add(format_args!("{setting}"));
        }
        text.add(format_args!("pid-file={}", run.join("pid").display()));
        for setting in ["port=0", "no-resolv", "no-hosts"] {
            text.add(format_args!("{setting}"));
        }
        text.add(format_args!("interface={interface}"));
        text.add(format_args!("except-interface=lo"));
        text.add(format_args!("bind-dynamic"));
        match &self.dhcp {
            Dhcp::Full(networks) => self.full(networks, &mut text),
            Dhcp::Proxy(networks) => self.proxy(networks, &mut text),
            Dhcp::Site => {}
        }
        text.add(format_args!("enable-tftp={interface}"));
        text.add(format_args!("tftp-root={}", tftp_root.display()));
        text.add(format_args!("tftp-max={MAX_TFTP}"));
        text.0
    }

    /// Addresses, and what to boot. This machine is neither a router nor a DNS server, so it announces none
    /// of itself.
    fn full(&self, networks: &[Addresses], text: &mut Lines) {
        for byte in 0..256 {
            text.add(format_args!("dhcp-mac=set:mac{byte:02x},*:*:*:*:*:{byte:02x}"));
        }
        text.add(format_args!("dhcp-option=option:router"));
        text.add(format_args!("dhcp-option=option:dns-server"));
        for (number, network) in networks.iter().enumerate() {
            let Addresses { range, netmask, router } = network;
            let set = router.map_or_else(String::new, |_| format!("set:net{number},"));
            spread(network, &set, text);
            text.add(format_args!("dhcp-range={set}{},{},{netmask},1h", range.first, range.last));
            if let Some(router) = router {
                text.add(format_args!("dhcp-option=tag:net{number},option:router,{router}"));
            }
        }
        let count: u64 = networks.iter().map(|network| network.range.count()).sum();
        text.add(format_args!("dhcp-lease-max={count}"));
        text.add(format_args!("dhcp-ignore-clid"));
        text.add(format_args!("no-ping"));
        self.leases(text);
        self.boot_files(text);
        self.ignore_strangers(text);
    }

    /// The settings of a DHCP server that say what to boot; a site's own dnsmasq takes the same.
    fn boot_files(&self, text: &mut Lines) {
        let address = self.address();
        self.tags(text);
        for (who, loader) in self.loaders_by_tag() {
            let mut boot = |tags: &str, file: &str, server: &str| {
                text.add(format_args!("dhcp-boot={who}{tags},{file}{server}"));
            };
            let from = format!(",,{address}");
            if loader.bios_is_ipxe() {
                boot("tag:!uefi,tag:!uefi-http,tag:!ipxe", loader.bios, &from);
                boot("tag:!uefi,tag:!uefi-http,tag:ipxe", ipxe::ENTRY, &from);
            } else {
                boot("tag:!uefi,tag:!uefi-http", loader.bios, &from);
            }
            if let Some(file) = &loader.uefi {
                boot("tag:uefi,tag:!ipxe", file, &from);
                boot("tag:uefi,tag:ipxe", ipxe::ENTRY, &from);
                boot("tag:uefi-http", &format!("http://{address}:{}/{file}", self.http), "");
            }
        }
        if self.loaders.serves_uefi() {
            text.add(format_args!("dhcp-option-force=tag:uefi-http,60,HTTPClient"));
        }
    }

    /// Only what to boot, for machines that have their address from another server (a "proxy" of PXE 2.1).
    fn proxy(&self, networks: &[Network], text: &mut Lines) {
        let address = self.address();
        for Network { address, netmask } in networks {
            let network = Ipv4Addr::from_bits(address.to_bits() & netmask.to_bits());
            text.add(format_args!("dhcp-range={network},proxy,{netmask}"));
        }
        self.leases(text);
        self.tags(text);
        for (who, loader) in self.loaders_by_tag() {
            let mut service = |tags: &str, architecture: &str, file: &str| {
                let tags = format!("{who}{tags}");
                let comma = if tags.is_empty() || tags.ends_with(',') { "" } else { "," };
                text.add(format_args!("pxe-service={tags}{comma}{architecture},\"ka\",{file},{address}"));
            };
            if loader.bios_is_ipxe() {
                service("tag:!ipxe", "x86PC", loader.bios);
                service("tag:ipxe", "x86PC", ipxe::ENTRY);
            } else {
                service("", "x86PC", loader.bios);
            }
            for architecture in ["BC_EFI", "X86-64_EFI"] {
                if let Some(file) = &loader.uefi {
                    service("tag:!ipxe", architecture, file);
                    service("tag:ipxe", architecture, ipxe::ENTRY);
                }
            }
        }
        self.ignore_strangers(text);
    }

    /// Who is asked for, and what is loaded. Tags keep the lines apart, whatever their order.
    fn loaders_by_tag(&self) -> Vec<(String, &Loader)> {
        let Loaders { common, own, .. } = &self.loaders;
        let others = if own.is_empty() { String::new() } else { "tag:!own,".into() };
        let own = own.iter().enumerate().map(|(number, (loader, _))| (format!("tag:own{number},"), loader));
        std::iter::once((others, common)).chain(own).collect()
    }

    /// A machine that finds nothing to boot here gets no offer: it would wait for a file that never comes,
    /// instead of going on to the next entry of its boot order. A client that does not tell its architecture
    /// is no firmware.
    fn ignore_strangers(&self, text: &mut Lines) {
        text.add(format_args!("dhcp-match=set:arch,option:client-arch"));
        if let Some(bios) = SERVED.bios {
            text.add(format_args!("dhcp-match=set:bios,option:client-arch,{bios}"));
        }
        text.add(format_args!("dhcp-ignore=tag:arch,tag:!bios,tag:!uefi,tag:!uefi-http"));
        if !self.loaders.serves_uefi() {
            // The agent and an installed system have an architecture too, but are no ROM.
            text.add(format_args!("dhcp-vendorclass=set:rom,PXEClient"));
            text.add(format_args!("dhcp-ignore=tag:uefi,tag:rom"));
            text.add(format_args!("dhcp-ignore=tag:uefi-http"));
        }
    }

    /// dnsmasq keeps leases even where it gives none, and by default with the files of a dnsmasq of the
    /// system's.
    fn leases(&self, text: &mut Lines) {
        text.add(format_args!("dhcp-leasefile={}", self.leases_file().display()));
    }

    /// Where dnsmasq writes who has which address.
    #[must_use]
    pub fn leases_file(&self) -> PathBuf {
        self.run.join("leases")
    }

    fn tags(&self, text: &mut Lines) {
        for number in SERVED.uefi {
            text.add(format_args!("dhcp-match=set:uefi,option:client-arch,{number}"));
        }
        text.add(format_args!("dhcp-match=set:uefi-http,option:client-arch,{}", SERVED.uefi_http));
        text.add(format_args!("dhcp-match=set:ipxe,175"));
        for (number, (_, machines)) in self.loaders.own.iter().enumerate() {
            for mac in machines {
                text.add(format_args!("dhcp-mac=set:own,{mac}"));
                text.add(format_args!("dhcp-mac=set:own{number},{mac}"));
            }
        }
    }

    /// The settings for a site's own dnsmasq.
    #[must_use]
    pub fn for_a_sites_dnsmasq(&self) -> String {
        let mut text = Lines(String::new());
        self.boot_files(&mut text);
        text.0
    }

    /// Our address, which nodes learn as the next server.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.network.address
    }
}

/// dnsmasq offers an address to everybody whose search ends at it, until one of them has taken it, and the
/// others are refused (NAK), after which some firmware gives up. Machines that were bought together differ in
/// the last byte of their hardware addresses, so each value of that byte has addresses of its own; those that
/// are taken already fall back to the whole range.
fn spread(network: &Addresses, set: &str, text: &mut Lines) {
    let Addresses { range, netmask, .. } = network;
    let (first, count) = (u64::from(range.first.to_bits()), range.count());
    let address = |bits: u64| u32::try_from(bits).map(Ipv4Addr::from_bits);
    for byte in 0..256 {
        // Where there are fewer addresses than values, neighbours must not share one: they start together.
        let (from, to) = match count {
            0..256 => (first + byte % count, first + byte % count),
            _ => (first + byte * count / 256, first + (byte + 1) * count / 256 - 1),
        };
        if let (Ok(from), Ok(to)) = (address(from), address(to)) {
            text.add(format_args!("dhcp-range=tag:mac{byte:02x},{set}{from},{to},{netmask},1h"));
        }
    }
}

struct Lines(String);

impl Lines {
    fn add(&mut self, setting: Arguments<'_>) {
        // Writing to a String never fails.
        let _ = writeln!(self.0, "{setting}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::pxe::{BiosLoader, Booting, Ipxe, Pxe};
    use std::process::Command;

    const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

    fn service(dhcp: Dhcp, loaders: Loaders) -> Service {
        Service {
            interface: "eth1".into(),
            network: Network { address: Ipv4Addr::new(10, 0, 0, 1), netmask: NETMASK },
            dhcp,
            loaders,
            http: 30766,
            tftp_root: "/var/lib/ka/boot".into(),
            run: "/run/ka/dnsmasq".into(),
        }
    }

    fn addresses(text: &str, router: Option<Ipv4Addr>) -> Addresses {
        Addresses { range: text.parse().unwrap(), netmask: NETMASK, router }
    }

    fn full() -> Dhcp {
        Dhcp::Full(vec![addresses("10.0.0.2,10.0.0.254", None)])
    }

    fn proxy() -> Dhcp {
        Dhcp::Proxy(vec![Network { address: Ipv4Addr::new(10, 0, 0, 1), netmask: NETMASK }])
    }

    fn loaders() -> Loaders {
        Loaders::find(&Pxe::default()).unwrap()
    }

    fn without_uefi() -> Loaders {
        let mut loaders = loaders();
        loaders.common.uefi = None;
        loaders
    }

    /// One machine that differs in all.
    fn with_own() -> Loaders {
        let own = Booting { bios: BiosLoader::Undionly, ipxe: Ipxe::Ipxe, ..Booting::default() };
        let machines = [("52:54:00:00:00:01".parse().unwrap(), own)].into();
        Loaders::find(&Pxe { machines, ..Pxe::default() }).unwrap()
    }

    #[test]
    fn dnsmasq_accepts_every_configuration() {
        let one = "dhcp-range=10.0.0.2,10.0.0.254,255.255.255.0,1h";
        let beside = "dhcp-range=10.0.0.0,proxy,255.255.255.0";
        for (dhcp, loaders, there, not_there) in [
            (
                full(),
                loaders(),
                &[
                    one,
                    "dhcp-lease-max=253",
                    "dhcp-boot=tag:!uefi,tag:!uefi-http,lpxelinux.0,,10.0.0.1",
                    "dhcp-boot=tag:uefi,tag:!ipxe,snponly.efi,,10.0.0.1",
                    "dhcp-boot=tag:uefi-http,http://10.0.0.1:30766/snponly.efi",
                    "dhcp-ignore=tag:arch,tag:!bios,tag:!uefi,tag:!uefi-http",
                ][..],
                "proxy",
            ),
            (full(), without_uefi(), &[one, "dhcp-ignore=tag:uefi-http"][..], "snponly"),
            (
                full(),
                with_own(),
                &[
                    "dhcp-mac=set:own0,52:54:00:00:00:01",
                    "dhcp-boot=tag:!own,tag:!uefi,tag:!uefi-http,lpxelinux.0,,10.0.0.1",
                    "dhcp-boot=tag:own0,tag:!uefi,tag:!uefi-http,tag:!ipxe,undionly.kpxe,,10.0.0.1",
                    "dhcp-boot=tag:own0,tag:uefi,tag:!ipxe,ipxe.efi,,10.0.0.1",
                ][..],
                "proxy",
            ),
            (
                proxy(),
                loaders(),
                &[
                    beside,
                    "pxe-service=tag:ipxe,BC_EFI,\"ka\",boot.ipxe,10.0.0.1",
                    "dhcp-leasefile=/run/ka/dnsmasq/leases",
                ][..],
                "lease-max",
            ),
            (
                proxy(),
                without_uefi(),
                &[beside, "pxe-service=x86PC,\"ka\",lpxelinux.0,10.0.0.1"][..],
                "snponly",
            ),
            (
                proxy(),
                with_own(),
                &[
                    "pxe-service=tag:!own,x86PC,\"ka\",lpxelinux.0,10.0.0.1",
                    "pxe-service=tag:own0,tag:!ipxe,x86PC,\"ka\",undionly.kpxe,10.0.0.1",
                ][..],
                "lease-max",
            ),
            (Dhcp::Site, loaders(), &["enable-tftp=eth1"][..], "dhcp-"),
        ] {
            let text = service(dhcp, loaders).config();
            for line in there.iter().chain(&["interface=eth1", "port=0"]) {
                assert!(text.lines().any(|l| l == *line), "{line} is missing in {text}");
            }
            assert!(!text.contains(not_there), "{text}");
            accepted(&text);
        }
        accepted(&service(Dhcp::Site, with_own()).for_a_sites_dnsmasq());
    }

    #[test]
    fn each_network_has_its_addresses_and_its_router() {
        let dhcp = Dhcp::Full(vec![
            addresses("10.0.0.2,10.0.0.254", None),
            addresses("10.1.0.50,10.1.0.53", Some(Ipv4Addr::new(10, 1, 0, 1))),
        ]);
        let text = service(dhcp, loaders()).config();
        for line in [
            "dhcp-option=option:router",
            "dhcp-range=10.0.0.2,10.0.0.254,255.255.255.0,1h",
            "dhcp-range=set:net1,10.1.0.50,10.1.0.53,255.255.255.0,1h",
            "dhcp-range=tag:mac01,set:net1,10.1.0.51,10.1.0.51,255.255.255.0,1h",
            "dhcp-option=tag:net1,option:router,10.1.0.1",
            "dhcp-lease-max=257",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in {text}");
        }
        accepted(&text);
    }

    #[test]
    fn machines_that_start_together_are_not_offered_one_address() {
        for (range, ranges) in [
            ("10.0.0.50,10.0.0.53", ["10.0.0.51,10.0.0.51", "10.0.0.52,10.0.0.52"]),
            ("10.0.0.0,10.0.3.255", ["10.0.0.4,10.0.0.7", "10.0.0.8,10.0.0.11"]),
        ] {
            let text = service(Dhcp::Full(vec![addresses(range, None)]), without_uefi()).config();
            for (byte, range) in [1, 2].into_iter().zip(ranges) {
                let line = format!("dhcp-range=tag:mac{byte:02x},{range},255.255.255.0,1h");
                assert!(text.lines().any(|l| l == line), "{line} is missing in {text}");
            }
        }
    }

    fn accepted(text: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let judged = Command::new("dnsmasq").arg("--test").arg("-C").arg(file.path()).output().unwrap();
        assert!(judged.status.success(), "{}\n{text}", String::from_utf8_lossy(&judged.stderr));
    }
}
