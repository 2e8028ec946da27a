//! The parameters for stage1 on the kernel command line.
//!
//! These are the original's syntax (`automatic=method:ka,interface:eth0,network:dhcp … kamethod`), `ka.*`
//! parameters for what it lacks, and pxelinux's `BOOTIF=`. An invalid value of one of our parameters is an
//! error, because a node that guesses may take the wrong card or server. An unknown parameter of ours is a
//! warning. Everything else belongs to the kernel or to other programs.

#[cfg(test)]
mod tests;
mod words;

use std::net::Ipv4Addr;

use crate::log_server::LogServer;
use crate::mac::Mac;
use crate::wire::{CONTROL_PORT, session_names};
pub use words::words;

/// The request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// Whether the machine was booted to be cloned. If not, its disks must not be touched.
    pub kamethod: bool,
    /// The card to use, unless [`CommandLine::bootif`] names one.
    pub interface: Interface,
    /// The card that the boot loader used (pxelinux's `IPAPPEND 2` or `SYSAPPEND 2`). It takes precedence:
    /// after the kernel has renamed the cards, only the address identifies the wired one.
    pub bootif: Option<Mac>,
    /// The VLAN tag of the node's frames; `None` for untagged frames.
    pub vlan: Option<u16>,
    /// How the card gets its address.
    pub addressing: Addressing,
    /// The controller's address, if given.
    pub server: Option<Server>,
    /// The session to ask for.
    pub session: String,
    /// An additional place for the log, besides the controller.
    pub store_log: Option<LogServer>,
    /// Whether to log debug messages.
    pub debug: bool,
    /// Warnings about what was not understood, for the log; each names the parameter.
    pub warnings: Vec<String>,
}

/// The card to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Interface {
    /// The first one with a carrier.
    #[default]
    Auto,
    /// The one with this name.
    Name(String),
}

/// How the card gets its address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// From a DHCP server.
    #[default]
    Dhcp,
    /// From the command line.
    Static(StaticAddress),
}

/// An address given on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticAddress {
    /// The card's address.
    pub address: Ipv4Addr,
    /// The prefix length.
    pub prefix: u8,
    /// The default gateway, if any.
    pub gateway: Option<Ipv4Addr>,
}

/// A controller's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its IP address or host name.
    pub host: String,
    /// Its control port.
    pub port: u16,
}

/// A parameter with an invalid value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kernel command line: {parameter}={value}: expected {expected}")]
pub struct CommandLineError {
    /// The parameter, or the key within `automatic=`.
    pub parameter: String,
    /// Its value.
    pub value: String,
    /// What was expected.
    pub expected: &'static str,
}

/// Parses a kernel command line. The last of several equal parameters applies, as for the kernel.
///
/// # Errors
/// [`CommandLineError`] names the first invalid parameter.
pub fn parse(text: &str) -> Result<CommandLine, CommandLineError> {
    let mut seen = Seen::default();
    for (name, value) in words(text) {
        match (name.as_str(), value) {
            ("kamethod", None) => seen.kamethod = true,
            ("automatic", Some(value)) => seen.automatic(&value)?,
            ("BOOTIF", Some(value)) => seen.bootif = Some(bootif(&value)?),
            ("ka.server", Some(value)) => seen.server = Some(server("ka.server", &value)?),
            ("ka.session", Some(value)) => seen.session = Some(session(&value)?),
            ("ka.store_log", Some(value)) => {
                let server = value.parse().map_err(|expected| wrong("ka.store_log", &value, expected))?;
                seen.store_log = Some(server);
            }
            ("ka.debug", value) => seen.debug = switch("ka.debug", value.as_deref())?,
            ("ka.address", Some(value)) => {
                let (address, prefix) = address("ka.address", &value)?;
                seen.address = Some(address);
                seen.prefix = Some(prefix.ok_or_else(|| wrong("ka.address", &value, ADDRESS))?);
                seen.fixed = true;
            }
            ("ka.vlan", Some(value)) => seen.vlan = Some(vlan(&value)?),
            ("ka.gateway", Some(value)) => seen.gateway = Some(ip("ka.gateway", &value)?),
            (name, value) if name.starts_with("ka.") || is_ours(name) => {
                let shown = value.map_or_else(|| name.to_owned(), |value| format!("{name}={value}"));
                seen.warnings.push(format!("kernel command line: {shown}: unknown, ignored"));
            }
            _ => {}
        }
    }
    seen.finish()
}

const ADDRESS: &str = "an IPv4 address with its prefix length, such as 10.0.0.5/24";
const IP: &str = "an IPv4 address";
/// IEEE 802.1Q: 0 and 4095 are reserved.
const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;

/// Our parameters, to detect a missing or superfluous value.
fn is_ours(name: &str) -> bool {
    matches!(name, "kamethod" | "automatic" | "BOOTIF")
}

#[derive(Default)]
struct Seen {
    kamethod: bool,
    interface: Interface,
    bootif: Option<Mac>,
    vlan: Option<u16>,
    fixed: bool,
    address: Option<Ipv4Addr>,
    prefix: Option<u8>,
    gateway: Option<Ipv4Addr>,
    server: Option<Server>,
    session: Option<String>,
    store_log: Option<LogServer>,
    debug: bool,
    warnings: Vec<String>,
}

impl Seen {
    /// The original's list of `key:value`, separated by commas.
    fn automatic(&mut self, list: &str) -> Result<(), CommandLineError> {
        for item in list.split(',').filter(|item| !item.is_empty()) {
            let Some((key, value)) = item.split_once(':') else {
                return Err(wrong("automatic", list, "key:value pairs with commas between them"));
            };
            let parameter = format!("automatic={key}");
            match key {
                "method" if value == "ka" => {}
                "method" => return Err(wrong(&parameter, value, "ka")),
                "interface" if value == "auto" => self.interface = Interface::Auto,
                "interface" if is_interface_name(value) => self.interface = Interface::Name(value.to_owned()),
                "interface" => {
                    return Err(wrong(&parameter, value, "auto or the name of a network interface"));
                }
                "network" if value == "dhcp" => self.fixed = false,
                "network" if value == "static" => self.fixed = true,
                "network" => return Err(wrong(&parameter, value, "dhcp or static")),
                "ip" => {
                    let (address, prefix) = address(&parameter, value)?;
                    self.address = Some(address);
                    self.prefix = prefix.or(self.prefix);
                }
                "netmask" => self.prefix = Some(netmask(&parameter, value)?),
                "gateway" => self.gateway = Some(ip(&parameter, value)?),
                "server" => self.server = Some(server(&parameter, value)?),
                _ => self
                    .warnings
                    .push(format!("kernel command line: automatic={key}:{value}: unknown, ignored")),
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<CommandLine, CommandLineError> {
        let addressing = match (self.fixed, self.address, self.prefix) {
            (false, ..) => Addressing::Dhcp,
            (true, Some(address), Some(prefix)) => {
                Addressing::Static(StaticAddress { address, prefix, gateway: self.gateway })
            }
            (true, None, _) => {
                return Err(wrong("automatic=network", "static", "ip:ADDRESS or ka.address= too"));
            }
            (true, _, None) => {
                return Err(wrong(
                    "automatic=network",
                    "static",
                    "netmask:MASK or ka.address=ADDRESS/PREFIX too",
                ));
            }
        };
        Ok(CommandLine {
            kamethod: self.kamethod,
            interface: self.interface,
            bootif: self.bootif,
            vlan: self.vlan,
            addressing,
            server: self.server,
            session: self.session.unwrap_or_else(|| session_names::STAGE2.to_owned()),
            store_log: self.store_log,
            debug: self.debug,
            warnings: self.warnings,
        })
    }
}

fn wrong(parameter: &str, value: &str, expected: &'static str) -> CommandLineError {
    CommandLineError { parameter: parameter.to_owned(), value: value.to_owned(), expected }
}

/// pxelinux puts the hardware type before the address: `01-` is Ethernet.
fn bootif(value: &str) -> Result<Mac, CommandLineError> {
    let mac = value.strip_prefix("01-").or_else(|| value.strip_prefix("01:")).unwrap_or(value);
    mac.parse().map_err(|_| wrong("BOOTIF", value, "01-aa-bb-cc-dd-ee-ff, as pxelinux writes it"))
}

fn vlan(value: &str) -> Result<u16, CommandLineError> {
    let id = value.parse().ok().filter(|id| VLANS.contains(id));
    id.ok_or_else(|| wrong("ka.vlan", value, "the number of a VLAN, from 1 to 4094"))
}

fn session(value: &str) -> Result<String, CommandLineError> {
    if !session_names::is_valid(value) {
        return Err(wrong("ka.session", value, "the name of a session"));
    }
    Ok(value.to_owned())
}

fn switch(parameter: &str, value: Option<&str>) -> Result<bool, CommandLineError> {
    match value {
        None | Some("1" | "y" | "yes" | "on") => Ok(true),
        Some("0" | "n" | "no" | "off") => Ok(false),
        Some(value) => Err(wrong(parameter, value, "nothing, 1 or 0")),
    }
}

fn ip(parameter: &str, value: &str) -> Result<Ipv4Addr, CommandLineError> {
    value.parse().map_err(|_| wrong(parameter, value, IP))
}

fn address(parameter: &str, value: &str) -> Result<(Ipv4Addr, Option<u8>), CommandLineError> {
    let (text, prefix) = value.split_once('/').map_or((value, None), |(a, p)| (a, Some(p)));
    let prefix = match prefix.map(str::parse) {
        None => None,
        Some(Ok(bits @ 0..=32)) => Some(bits),
        Some(_) => return Err(wrong(parameter, value, ADDRESS)),
    };
    let address: Ipv4Addr = text.parse().map_err(|_| wrong(parameter, value, ADDRESS))?;
    if address.is_unspecified() || address.is_broadcast() || address.is_multicast() {
        return Err(wrong(parameter, value, "an address that one machine can have"));
    }
    Ok((address, prefix))
}

/// The prefix length of a mask, which must be ones followed by zeros.
fn netmask(parameter: &str, value: &str) -> Result<u8, CommandLineError> {
    let mask: Ipv4Addr = ip(parameter, value)?;
    crate::ipv4::prefix_of(mask).ok_or_else(|| wrong(parameter, value, "a mask such as 255.255.255.0"))
}

/// `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`.
fn server(parameter: &str, value: &str) -> Result<Server, CommandLineError> {
    let expected = "HOST or HOST:PORT";
    let (host, port) = match value.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(None) => return Err(wrong(parameter, value, expected)),
        Some(Some((host, ""))) => (host, None),
        Some(Some((host, port))) => {
            (host, Some(port.strip_prefix(':').ok_or_else(|| wrong(parameter, value, expected))?))
        }
        None => value.split_once(':').map_or((value, None), |(host, port)| (host, Some(port))),
    };
    let port = match port.map(str::parse) {
        None => CONTROL_PORT,
        Some(Ok(port)) if port != 0 => port,
        Some(_) => return Err(wrong(parameter, value, "HOST:PORT with a port from 1 to 65535")),
    };
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(wrong(parameter, value, expected));
    }
    Ok(Server { host: host.to_owned(), port })
}

/// The kernel's own rule (`dev_valid_name` in net/core/dev.c): at most 15 bytes, without `/`, `:` and spaces.
fn is_interface_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 15
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
}
