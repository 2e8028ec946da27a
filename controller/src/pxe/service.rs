//! What dnsmasq is to serve, and its configuration: as the wire's DHCP server, beside a site's own, or without
//! any DHCP.
//!
//! Machines are told apart by option 93, the client's architecture (RFC 4578, and IANA's list of processor
//! architecture types): BIOS gets pxelinux, 64-bit x86 UEFI gets iPXE, and iPXE itself (option 175) its script.

use std::fmt::{Arguments, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::interface::Network;
use super::{ipxe, pxelinux};
use crate::values::Range;

/// Types of 64-bit x86 UEFI machines. 7 is "EFI BC", which all of them use though 9 was meant for them.
const UEFI_TYPES: [u16; 2] = [7, 9];
/// Transfers over TFTP at the same time. One that its machine has given up takes a place for half a minute.
const MAX_TFTP: u32 = 4000;
/// x86-64 UEFI that boots from HTTP.
const UEFI_HTTP_TYPE: u16 = 16;

/// Who gives addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dhcp {
    /// We do, and nobody else may on this wire.
    Full(Range),
    /// The site's server does; we only say what to boot.
    Proxy,
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
    /// Whether there is something to boot for UEFI machines.
    pub uefi: bool,
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
    /// - A machine keeps one address, whoever asks for it: the card's ROM, iPXE, the agent and the installed system
    ///   have different client identifiers, and would take four. Nobody is pinged before an address is offered: that
    ///   takes 3 s each, one after the other.
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
        match self.dhcp {
            Dhcp::Full(range) => self.full(range, &mut text),
            Dhcp::Proxy => self.proxy(&mut text),
            Dhcp::Site => {}
        }
        text.add(format_args!("enable-tftp={interface}"));
        text.add(format_args!("tftp-root={}", tftp_root.display()));
        text.add(format_args!("tftp-max={MAX_TFTP}"));
        text.0
    }

    /// Addresses, and what to boot. No router and no DNS server is announced, for this machine is neither.
    fn full(&self, range: Range, text: &mut Lines) {
        self.spread(range, text);
        text.add(format_args!("dhcp-range={},{},{},1h", range.first, range.last, self.network.netmask));
        text.add(format_args!("dhcp-lease-max={}", range.count()));
        text.add(format_args!("dhcp-ignore-clid"));
        text.add(format_args!("no-ping"));
        self.leases(text);
        text.add(format_args!("dhcp-option=option:router"));
        text.add(format_args!("dhcp-option=option:dns-server"));
        self.boot_files(text);
    }

    /// dnsmasq offers an address to everybody whose search ends at it, until one of them has taken it, and the others are
    /// refused (NAK), after which some firmware gives up. Machines that were bought together differ in the last byte of
    /// their hardware addresses, so each value of that byte has addresses of its own; those that are taken already fall
    /// back to the whole range.
    fn spread(&self, range: Range, text: &mut Lines) {
        let (first, count) = (u64::from(range.first.to_bits()), range.count());
        let address = |bits: u64| u32::try_from(bits).map(Ipv4Addr::from_bits);
        for byte in 0..256 {
            // Where there are fewer addresses than values, neighbours must not share one: they start together.
            let (from, to) = match count {
                0..256 => (first + byte % count, first + byte % count),
                _ => (first + byte * count / 256, first + (byte + 1) * count / 256 - 1),
            };
            if let (Ok(from), Ok(to)) = (address(from), address(to)) {
                text.add(format_args!("dhcp-mac=set:mac{byte:02x},*:*:*:*:*:{byte:02x}"));
                text.add(format_args!(
                    "dhcp-range=tag:mac{byte:02x},{from},{to},{},1h",
                    self.network.netmask
                ));
            }
        }
    }

    /// The settings of a DHCP server that say what to boot; a site's own dnsmasq takes the same.
    fn boot_files(&self, text: &mut Lines) {
        let address = self.address();
        self.tags(text);
        text.add(format_args!("dhcp-boot=tag:!uefi,tag:!uefi-http,{},,{address}", pxelinux::LOADER));
        if self.uefi {
            text.add(format_args!("dhcp-boot=tag:uefi,tag:!ipxe,{},,{address}", ipxe::LOADER));
            text.add(format_args!("dhcp-boot=tag:uefi,tag:ipxe,{},,{address}", ipxe::ENTRY));
            text.add(format_args!("dhcp-option-force=tag:uefi-http,60,HTTPClient"));
            text.add(format_args!("dhcp-boot=tag:uefi-http,http://{address}:{}/{}", self.http, ipxe::LOADER));
        }
    }

    /// Only what to boot, for machines that have their address from another server (a "proxy" of PXE 2.1).
    fn proxy(&self, text: &mut Lines) {
        let Network { address, netmask } = self.network;
        let network = Ipv4Addr::from_bits(address.to_bits() & netmask.to_bits());
        text.add(format_args!("dhcp-range={network},proxy,{netmask}"));
        self.leases(text);
        self.tags(text);
        text.add(format_args!("pxe-service=x86PC,\"ka\",{},{address}", pxelinux::LOADER));
        if self.uefi {
            for architecture in ["BC_EFI", "X86-64_EFI"] {
                text.add(format_args!(
                    "pxe-service=tag:!ipxe,{architecture},\"ka\",{},{address}",
                    ipxe::LOADER
                ));
                text.add(format_args!(
                    "pxe-service=tag:ipxe,{architecture},\"ka\",{},{address}",
                    ipxe::ENTRY
                ));
            }
        }
    }

    /// dnsmasq keeps leases even where it gives none, and by default with the files of a dnsmasq of the system's.
    fn leases(&self, text: &mut Lines) {
        text.add(format_args!("dhcp-leasefile={}", self.leases_file().display()));
    }

    /// Where dnsmasq writes who has which address.
    #[must_use]
    pub fn leases_file(&self) -> PathBuf {
        self.run.join("leases")
    }

    fn tags(&self, text: &mut Lines) {
        for number in UEFI_TYPES {
            text.add(format_args!("dhcp-match=set:uefi,option:client-arch,{number}"));
        }
        text.add(format_args!("dhcp-match=set:uefi-http,option:client-arch,{UEFI_HTTP_TYPE}"));
        text.add(format_args!("dhcp-match=set:ipxe,175"));
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
    use crate::values::range;
    use std::process::Command;

    fn service(dhcp: Dhcp, uefi: bool) -> Service {
        Service {
            interface: "eth1".into(),
            network: Network {
                address: Ipv4Addr::new(10, 0, 0, 1),
                netmask: Ipv4Addr::new(255, 255, 255, 0),
            },
            dhcp,
            uefi,
            http: 30766,
            tftp_root: "/var/lib/ka/boot".into(),
            run: "/run/ka/dnsmasq".into(),
        }
    }

    #[test]
    fn dnsmasq_accepts_every_configuration() {
        let range = range("10.0.0.2,10.0.0.254").unwrap();
        let full = "dhcp-range=10.0.0.2,10.0.0.254,255.255.255.0,1h";
        let proxy = "dhcp-range=10.0.0.0,proxy,255.255.255.0";
        for (dhcp, uefi, there, not_there) in [
            (
                Dhcp::Full(range),
                true,
                &[
                    full,
                    "dhcp-lease-max=253",
                    "dhcp-boot=tag:!uefi,tag:!uefi-http,pxelinux.0,,10.0.0.1",
                    "dhcp-boot=tag:uefi,tag:!ipxe,snponly.efi,,10.0.0.1",
                    "dhcp-boot=tag:uefi-http,http://10.0.0.1:30766/snponly.efi",
                ][..],
                "proxy",
            ),
            (Dhcp::Full(range), false, &[full][..], "snponly"),
            (
                Dhcp::Proxy,
                true,
                &[
                    proxy,
                    "pxe-service=tag:ipxe,BC_EFI,\"ka\",boot.ipxe,10.0.0.1",
                    "dhcp-leasefile=/run/ka/dnsmasq/leases",
                ][..],
                "lease-max",
            ),
            (Dhcp::Proxy, false, &[proxy, "pxe-service=x86PC,\"ka\",pxelinux.0,10.0.0.1"][..], "snponly"),
            (Dhcp::Site, true, &["enable-tftp=eth1"][..], "dhcp-"),
        ] {
            let text = service(dhcp, uefi).config();
            for line in there.iter().chain(&["interface=eth1", "port=0"]) {
                assert!(text.lines().any(|l| l == *line), "{line} is missing in {text}");
            }
            assert!(!text.contains(not_there), "{text}");
            accepted(&text);
        }
        accepted(&service(Dhcp::Site, true).for_a_sites_dnsmasq());
    }

    #[test]
    fn machines_that_start_together_are_not_offered_one_address() {
        for (range, ranges) in [
            ("10.0.0.50,10.0.0.53", ["10.0.0.51,10.0.0.51", "10.0.0.52,10.0.0.52"]),
            ("10.0.0.0,10.0.3.255", ["10.0.0.4,10.0.0.7", "10.0.0.8,10.0.0.11"]),
        ] {
            let text = service(Dhcp::Full(crate::values::range(range).unwrap()), false).config();
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
