//! `[pxe]`: how machines boot over the network, both in general and individually.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ka::ipv4::AddressRange;
use ka::mac::Mac;

use super::read::{Located, Section};

/// How machines boot over the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pxe {
    /// The only interface on which DHCP and TFTP are served.
    pub interface: Option<String>,
    /// This machine's address on the interface, if it has several.
    pub address: Option<Ipv4Addr>,
    /// The addresses that DHCP assigns; by default, those of the interface's network.
    pub range: Option<Located<AddressRange>>,
    /// The router that is announced on the interface's network.
    pub router: Option<Located<Ipv4Addr>>,
    /// Extra words for the nodes' kernel command line, such as consoles.
    pub console: String,
    /// The VLAN tag of the nodes' frames once they have booted; `None` for untagged frames.
    pub vlan: Option<u16>,
    /// How machines load and leave the boot loader.
    pub boot: Booting,
    /// Networks behind relays.
    pub subnets: Vec<Located<Subnet>>,
    /// Machines with settings of their own.
    pub machines: BTreeMap<Mac, Booting>,
}

/// How a machine loads its boot loader, and how the boot loader continues to the machine's own disk. Firmware
/// differs in both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Booting {
    /// What a BIOS machine loads.
    pub bios: BiosLoader,
    /// What a UEFI machine loads.
    pub ipxe: Ipxe,
    /// How pxelinux boots the disk.
    pub local_pxelinux: LocalPxelinux,
    /// How iPXE boots the disk.
    pub local_ipxe: LocalIpxe,
}

/// A BIOS machine's boot loader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BiosLoader {
    /// pxelinux that loads over HTTP, and falls back to TFTP.
    #[default]
    Lpxelinux,
    /// pxelinux that loads over TFTP.
    Pxelinux,
    /// iPXE with the card's own PXE driver.
    Undionly,
}

/// The iPXE of UEFI machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ipxe {
    /// It drives the card through the firmware.
    #[default]
    Snponly,
    /// It has drivers of its own.
    Ipxe,
    /// A file provided by the site.
    File(PathBuf),
}

/// How pxelinux boots the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalPxelinux {
    /// It unloads the network ROM, and returns to the BIOS.
    #[default]
    Unload,
    /// It returns to the BIOS with an error.
    Error,
    /// It starts the boot loader on the first disk.
    Chain,
}

/// How iPXE boots the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalIpxe {
    /// It returns to the firmware with an error.
    #[default]
    Error,
    /// It returns to the firmware.
    Success,
    /// It starts the boot loader on the first disk.
    Sanboot,
}

/// A network behind a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The addresses to assign.
    pub range: AddressRange,
    /// The network mask.
    pub netmask: Ipv4Addr,
    /// Its router.
    pub router: Ipv4Addr,
}

impl Default for Pxe {
    fn default() -> Self {
        Self {
            interface: None,
            address: None,
            range: None,
            router: None,
            console: "console=tty0 console=ttyS0,115200".into(),
            vlan: None,
            boot: Booting::default(),
            subnets: Vec::new(),
            machines: BTreeMap::new(),
        }
    }
}

impl Pxe {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let mut pxe = Self {
            interface: section.get("interface"),
            address: section.parse("address", ipv4).map(|address| address.value),
            range: section.parse("range", range),
            router: section.parse("router", ipv4),
            vlan: section.number("vlan", vlan),
            ..Self::default()
        };
        section.replace("console", &mut pxe.console, kernel_words);
        pxe.boot = Booting::default().read(&mut section);
        for subnet in section.sections("subnet") {
            pxe.subnets.extend(Subnet::read(subnet));
        }
        for (name, machine) in section.named_sections("machine") {
            pxe.read_machine(&section, &name, machine);
        }
        pxe.judge_ranges(&section);
        pxe.judge_files(&section);
        section.end();
        pxe
    }

    fn read_machine(&mut self, pxe: &Section<'_>, name: &Located<String>, mut machine: Section<'_>) {
        let booting = self.boot.clone().read(&mut machine);
        machine.end();
        match name.value.parse::<Mac>() {
            Ok(mac) if self.machines.insert(mac, booting).is_some() => {
                pxe.fault_at(name, format!("the machine {mac} has a section already"));
            }
            Ok(_) => {}
            Err(error) => pxe.fault_at(name, error.to_string()),
        }
    }

    /// No address may be assigned twice, and an address that is already in use is not assigned at all.
    fn judge_ranges(&self, section: &Section<'_>) {
        let own = self.range.iter().map(|range| (range.clone(), None));
        let others = self.subnets.iter().map(|subnet| {
            let range = Located { value: subnet.value.range, place: subnet.place.clone() };
            (range, Some(subnet.value))
        });
        let all: Vec<_> = own.chain(others).collect();
        for (number, (range, subnet)) in all.iter().enumerate() {
            for (earlier, other) in all.iter().take(number) {
                let at = earlier
                    .place
                    .as_ref()
                    .map_or_else(String::new, |place| format!(" of line {}", place.line));
                if range.value.first <= earlier.value.last && earlier.value.first <= range.value.last {
                    section.fault_at(
                        range,
                        format!("the range {} overlaps the range {}{at}", range.value, earlier.value),
                    );
                } else if let (Some(subnet), Some(other)) = (subnet, other)
                    && subnet.shares_addresses_with(other)
                    && (subnet.netmask, subnet.router) != (other.netmask, other.router)
                {
                    section.fault_at(
                        range,
                        format!("this network is also that{at}, with another netmask or router"),
                    );
                }
            }
        }
        if let (Some(range), Some(router)) = (&self.range, &self.router)
            && range.value.has(router.value)
        {
            section.fault_at(router, given_away(router.value, range.value));
        }
    }

    /// A site's files are served next to ours, under their own names.
    fn judge_files(&self, section: &Section<'_>) {
        let mut paths: Vec<&Path> = self.loaders().map(|booting| booting.ipxe.file().0).collect();
        paths.sort();
        paths.dedup();
        let mut names = BTreeMap::new();
        for path in paths {
            if let Some(other) = names.insert(path.file_name(), path) {
                section.fault(format!(
                    "{} and {} have one name, under which only one of them can be served",
                    other.display(),
                    path.display()
                ));
            }
        }
    }

    /// Reads how all machines boot, and then each machine with its own settings.
    fn loaders(&self) -> impl Iterator<Item = &Booting> {
        std::iter::once(&self.boot).chain(self.machines.values())
    }
}

impl Booting {
    /// Settings that a section omits stay unchanged.
    fn read(mut self, section: &mut Section<'_>) -> Self {
        section.replace("bios", &mut self.bios, BiosLoader::parse);
        section.replace("ipxe", &mut self.ipxe, Ipxe::parse);
        section.replace("local_pxelinux", &mut self.local_pxelinux, LocalPxelinux::parse);
        section.replace("local_ipxe", &mut self.local_ipxe, LocalIpxe::parse);
        self
    }
}

impl BiosLoader {
    fn parse(text: &str) -> Result<Self, String> {
        let names =
            [("lpxelinux", Self::Lpxelinux), ("pxelinux", Self::Pxelinux), ("undionly", Self::Undionly)];
        one_of("bios", &names, text)
    }
}

impl Ipxe {
    fn parse(text: &str) -> Result<Self, String> {
        let path = Path::new(text);
        if path.is_absolute() {
            return servable(path).map(|()| Self::File(path.to_owned()));
        }
        let names = [("snponly", Self::Snponly), ("ipxe", Self::Ipxe)];
        one_of("ipxe", &names, text).map_err(|error| format!("{error}, or a file with its whole path"))
    }

    /// The installed path, and the Debian package that provides it; the package of a site's own file is
    /// empty.
    #[must_use]
    pub fn file(&self) -> (&Path, &'static str) {
        match self {
            Self::Snponly => (Path::new("/usr/lib/ipxe/snponly.efi"), "ipxe"),
            Self::Ipxe => (Path::new("/usr/lib/ipxe/ipxe.efi"), "ipxe"),
            Self::File(path) => (path, ""),
        }
    }
}

impl LocalPxelinux {
    fn parse(text: &str) -> Result<Self, String> {
        let names =
            [("LOCALBOOT 0", Self::Unload), ("LOCALBOOT -1", Self::Error), ("chain.c32 hd0", Self::Chain)];
        one_of("local_pxelinux", &names, text)
    }
}

fn range(text: &str) -> Result<AddressRange, String> {
    text.parse::<AddressRange>().map_err(|error| error.to_string())
}

impl LocalIpxe {
    fn parse(text: &str) -> Result<Self, String> {
        let names = [("exit 1", Self::Error), ("exit 0", Self::Success), ("sanboot", Self::Sanboot)];
        one_of("local_ipxe", &names, text)
    }
}

impl Subnet {
    fn read(mut section: Section<'_>) -> Option<Located<Self>> {
        let place = section.place();
        let missing: Vec<_> =
            ["range", "netmask", "router"].into_iter().filter(|name| !section.has(name)).collect();
        if !missing.is_empty() {
            section.fault(format!("[[pxe.subnet]] lacks {}", missing.join(", ")));
        }
        let range = section.parse("range", range);
        let netmask = section.parse("netmask", netmask);
        let router = section.parse("router", ipv4);
        let (range, netmask, router) = match (range, netmask, router) {
            (Some(range), Some(netmask), Some(router)) => (range, netmask.value, router),
            _ => {
                section.end();
                return None;
            }
        };
        let subnet = Self { range: range.value, netmask, router: router.value };
        if !subnet.holds(subnet.range.first) || !subnet.holds(subnet.range.last) {
            section.fault_at(
                &range,
                format!("the range {} is not within one network of the netmask {netmask}", subnet.range),
            );
        } else if !subnet.holds(subnet.router) {
            section.fault_at(
                &router,
                format!(
                    "the router {} is not within {}, the network of the range",
                    subnet.router,
                    subnet.network()
                ),
            );
        } else if subnet.range.has(subnet.router) {
            section.fault_at(&router, given_away(subnet.router, subnet.range));
        }
        section.end();
        Some(Located { value: subnet, place: Some(place) })
    }

    /// The network address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.range.first.to_bits() & self.netmask.to_bits())
    }

    /// The network as `10.1.0.0/24`.
    #[must_use]
    pub fn network(&self) -> String {
        format!("{}/{}", self.address(), self.netmask.to_bits().count_ones())
    }

    /// Whether a host of this network may have the address.
    fn holds(&self, address: Ipv4Addr) -> bool {
        let (network, mask) = (self.address().to_bits(), self.netmask.to_bits());
        let (bits, hosts) = (address.to_bits(), !mask);
        // RFC 3021: in a network of two addresses, both belong to hosts.
        bits & mask == network && (hosts <= 1 || (bits != network && bits != network | hosts))
    }

    fn shares_addresses_with(&self, other: &Self) -> bool {
        let mask = self.netmask.to_bits() & other.netmask.to_bits();
        self.address().to_bits() & mask == other.address().to_bits() & mask
    }

    /// Whether this network and another overlap.
    #[must_use]
    pub fn overlaps(&self, address: Ipv4Addr, netmask: Ipv4Addr) -> bool {
        self.shares_addresses_with(&Self {
            range: AddressRange { first: address, last: address },
            netmask,
            router: address,
        })
    }
}

fn given_away(router: Ipv4Addr, range: AddressRange) -> String {
    format!("the router {router} is within the range {range}: DHCP would give its address to a machine")
}

fn one_of<T: Clone>(setting: &str, names: &[(&str, T)], text: &str) -> Result<T, String> {
    names.iter().find(|(name, _)| *name == text).map(|(_, value)| value.clone()).ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        format!("{setting}: unknown value \"{text}\", expected {}", names.join(", "))
    })
}

/// TFTP and HTTP serve plain names only, and a site's file must not replace one of ours.
fn servable(path: &Path) -> Result<(), String> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if !name.ends_with(".efi") || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(format!(
            "ipxe: {}: expected a file NAME.efi, with letters, digits, '.', '-' and '_' in its name",
            path.display()
        ));
    }
    Ok(())
}

fn ipv4(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| format!("'{text}' is not an IPv4 address"))
}

fn netmask(text: &str) -> Result<Ipv4Addr, String> {
    let mask = ipv4(text).map_err(|_| format!("'{text}' is not a netmask, such as 255.255.255.0"))?;
    let ones = mask.to_bits().leading_ones();
    if mask.to_bits().count_ones() != ones || !(1..=31).contains(&ones) {
        return Err(format!("{mask} is not the netmask of a network, such as 255.255.255.0"));
    }
    Ok(mask)
}

fn vlan(id: i64) -> Result<u16, String> {
    let id = u16::try_from(id).ok().filter(|id| (1..=4094).contains(id));
    id.ok_or_else(|| "expected a VLAN from 1 to 4094".into())
}

/// A line break here would start a new line of the pxelinux configuration.
fn kernel_words(text: &str) -> Result<String, String> {
    if text.chars().any(|c| c.is_control() || !c.is_ascii()) {
        return Err("expected one line of ASCII".into());
    }
    Ok(text.to_owned())
}
