//! The golden node's configuration: `/etc/ka/ka.toml`, and the locations of ka's files.
//!
//! Everything has a default, so the file needs only what differs. An unknown key is an error: a misspelt
//! `interface` must not be ignored.

pub mod bmc;
mod groups;
pub mod keys;
pub mod profiles;
pub mod pxe;
pub mod read;
pub mod show;

use std::path::{Path, PathBuf};

use ka::wire;
use ka_host::atomic::FileError;
use ka_host::guarded;

use crate::lists::node_set::Groups;
use profiles::Profiles;
use pxe::Pxe;
use read::{Section, Source};

/// The default path of the configuration.
pub const DEFAULT_FILE: &str = "/etc/ka/ka.toml";

/// The file that `kactl init` writes: every setting with its default, commented out.
pub const TEMPLATE: &str = include_str!("config/ka.toml");

/// The HTTP port for the boot files. It is next to the nodes' ports, because a golden node may run a web
/// server too.
const HTTP_PORT: u16 = 30766;
const BOOTED_PORT: u16 = 30767;

/// The maximum number of nodes per address in a session.
const PER_ADDRESS: u16 = 256;

/// The configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The locations of ka's files.
    pub directories: Directories,
    /// The ports that the nodes use.
    pub ports: Ports,
    /// How nodes are reached.
    pub net: Net,
    /// How machines boot over the network.
    pub pxe: Pxe,
    /// Named lists of nodes.
    pub groups: Groups,
    /// Defaults for `kactl run` where its command line sets nothing.
    pub profiles: Profiles,
}

/// How nodes are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    /// The only interface for nodes.
    pub interface: Option<String>,
    /// The maximum number of nodes with one address: behind a NAT router, or on one machine.
    pub per_address: u16,
}

impl Default for Net {
    fn default() -> Self {
        Self { interface: None, per_address: PER_ADDRESS }
    }
}

impl Net {
    fn read(mut section: Section<'_>) -> Self {
        let mut read = Self { interface: section.get("interface"), ..Self::default() };
        section.set("per_address", &mut read.per_address);
        if read.per_address == 0 {
            section.fault("per_address: with 0 no node could join; expected 1 to 65535");
        }
        section.end();
        read
    }
}

/// The mode bits that are always cleared on [`Directories::run`]. The group's execute bit may stay: it is the
/// mask of an ACL.
const CLOSED: u32 = 0o067;

/// The locations of ka's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    /// Files installed with ka: the agent and the image scripts.
    pub lib: PathBuf,
    /// The output of `kactl image`: `boot/` and `stage2/`.
    pub state: PathBuf,
    /// The nodes' logs, one directory per run.
    pub log: PathBuf,
    /// Files that do not survive a reboot: the runs' leases, dnsmasq's files.
    pub run: PathBuf,
    /// The keys.
    pub keys: PathBuf,
    /// How machines are switched on and off: a file with passwords.
    pub bmc: PathBuf,
}

impl Default for Directories {
    fn default() -> Self {
        Self {
            lib: "/usr/lib/ka".into(),
            state: "/var/lib/ka".into(),
            log: "/var/log/ka".into(),
            run: "/run/ka".into(),
            keys: "/etc/ka/keys".into(),
            bmc: "/etc/ka/bmc.toml".into(),
        }
    }
}

impl Directories {
    fn read(mut section: Section<'_>) -> Self {
        let mut read = Self::default();
        section.set("lib", &mut read.lib);
        section.set("state", &mut read.state);
        section.set("log", &mut read.log);
        section.set("run", &mut read.run);
        section.set("keys", &mut read.keys);
        section.set("bmc", &mut read.bmc);
        section.end();
        read
    }

    /// The root of the TFTP server.
    #[must_use]
    pub fn boot(&self) -> PathBuf {
        self.state.join("boot")
    }

    /// The tree that the session `getstage2` sends.
    #[must_use]
    pub fn stage2(&self) -> PathBuf {
        self.state.join("stage2")
    }

    /// Files that belong to this golden node and must not be cloned.
    #[must_use]
    pub fn own(&self) -> Vec<PathBuf> {
        vec![self.state.clone(), self.log.clone(), self.keys.clone(), self.bmc.clone()]
    }

    /// The records of the runs.
    #[must_use]
    pub fn journals(&self) -> PathBuf {
        self.state.join("runs")
    }

    /// Creates [`Directories::run`] if it does not exist, for root alone, regardless of the umask. Users that
    /// were granted access keep it.
    ///
    /// # Errors
    /// [`FileError`]: the system's error, or the directory belongs to another user.
    pub fn make_run(&self) -> Result<(), FileError> {
        guarded::shared_directory(&self.run, 0o700, CLOSED)
    }

    /// The leases of waiting and active runs.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.run.join("runs")
    }
}

/// The ports that the nodes use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Control connections (TCP).
    pub control: u16,
    /// The stream between members (TCP).
    pub data: u16,
    /// The boot files (TCP).
    pub http: u16,
    /// The port on which nodes report that they have booted from their own disks (TCP).
    pub booted: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { control: wire::CONTROL_PORT, data: wire::DATA_PORT, http: HTTP_PORT, booted: BOOTED_PORT }
    }
}

impl Ports {
    fn read(mut section: Section<'_>) -> Self {
        let mut read = Self::default();
        section.set("control", &mut read.control);
        section.set("data", &mut read.data);
        section.set("http", &mut read.http);
        section.set("booted", &mut read.booted);
        read.judge(&section);
        section.end();
        read
    }

    /// Two services cannot share a port.
    fn judge(&self, section: &Section<'_>) {
        let all =
            [("control", self.control), ("data", self.data), ("http", self.http), ("booted", self.booted)];
        for (number, (name, port)) in all.iter().enumerate() {
            if let Some((other, _)) = all.iter().take(number).find(|(_, other)| other == port) {
                section.fault(format!("{other} and {name} are both port {port}"));
            }
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The file has unknown keys or invalid values.
    #[error("{}", faults.join("\n"))]
    Content {
        /// All problems, each with file, line and column.
        faults: Vec<String>,
    },
}

impl Config {
    /// Reads the configuration. The default file may be missing; any other must exist.
    ///
    /// # Errors
    /// [`ConfigError`] with the file and, for its content, all problems with line and column.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && path == Path::new(DEFAULT_FILE) => {
                Ok(Self::default())
            }
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let (source, mut file) = Source::open(path, text);
        let config = Self {
            directories: Directories::read(file.section("directories")),
            ports: Ports::read(file.section("ports")),
            net: Net::read(file.section("net")),
            pxe: Pxe::read(file.section("pxe")),
            groups: groups::read(file.section("groups")),
            profiles: Profiles::read(file.section("defaults"), file.named_sections("profile")),
        };
        file.end();
        let faults = source.faults();
        if faults.is_empty() { Ok(config) } else { Err(ConfigError::Content { faults }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pxe::{Booting, LocalPxelinux, Subnet};
    use read::Located;
    use std::net::Ipv4Addr;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("ka.toml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn the_template_changes_nothing_and_names_every_default() {
        assert_eq!(parse(TEMPLATE), Ok(Config::default()));
        let uncommented: String = TEMPLATE
            .lines()
            .map(|line| line.strip_prefix("#").filter(|rest| !rest.starts_with([' ', '-'])).unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        let router = Ipv4Addr::new(10, 0, 0, 254);
        let own = Booting { local_pxelinux: LocalPxelinux::Chain, ..Booting::default() };
        let subnet = Subnet {
            range: "10.1.0.100,10.1.0.199".parse().unwrap(),
            netmask: Ipv4Addr::new(255, 255, 255, 0),
            router: Ipv4Addr::new(10, 1, 0, 1),
        };
        let shown = Config {
            net: Net { interface: Some("eth1".into()), ..Net::default() },
            pxe: Pxe {
                interface: Some("eth1".into()),
                address: Some(Ipv4Addr::new(10, 0, 0, 1)),
                range: "10.0.0.100,10.0.0.199".parse().ok().map(Located::nowhere),
                router: Some(Located::nowhere(router)),
                vlan: Some(5),
                subnets: vec![Located::nowhere(subnet)],
                machines: [("52:54:00:12:34:56".parse().unwrap(), own)].into(),
                ..Pxe::default()
            },
            ..Config::default()
        };
        assert_eq!(parse(&uncommented), Ok(shown));
    }

    #[test]
    fn an_error_names_file_line_and_column() {
        for (text, start) in [
            (
                "\n[pxe]\ninterfaec = \"eth1\"\n",
                "ka.toml:3:1: unknown field `interfaec`, expected one of `interface`",
            ),
            ("[ports]\ncontrol = 70000\n", "ka.toml:2:11: "),
            ("[net]\nper_address = 0\n", "ka.toml:1:1: per_address: with 0 no node"),
            ("[ports]\nhttp = 30765\n", "ka.toml:1:1: control and http are both port 30765"),
            ("[pxe]\n\nrange = \"10.0.0.9,10.0.0.2\"\n", "ka.toml:3:9: 10.0.0.9 is above 10.0.0.2"),
            ("[pxe]\nvlan = 4095\n", "ka.toml:2:8: expected a VLAN from 1 to 4094"),
            ("[pxe]\nconsole = \"a\\nLABEL x\"\n", "ka.toml:2:11: expected one line"),
            ("[pxe\n", "ka.toml:1:"),
            ("[directories]\nstate = 1\n", "ka.toml:2:9: "),
            ("pxe = 1\n", "ka.toml:1:7: expected a section [pxe]"),
            ("[pxe]\nsubnet = 1\n", "ka.toml:2:10: expected sections"),
            ("[pxe]\nmachine.x = 1\n", "ka.toml:2:13: expected a section [….machine.\"x\"]"),
            ("[pxes]\n", "ka.toml:1:2: unknown field `pxes`"),
            ("[pxe]\naddress = 1\n", "ka.toml:2:11: address: expected a text in quotes"),
            ("[pxe]\nrouter = \"10.0.0\"\n", "ka.toml:2:10: '10.0.0' is not an IPv4 address"),
            (
                "[pxe]\nrange = \"10.0.0.2,10.0.0.9\"\nrouter = \"10.0.0.5\"\n",
                "ka.toml:3:10: the router 10.0.0.5 is within",
            ),
            (
                "[pxe]\nbios = \"grub\"\n",
                "ka.toml:2:8: bios: unknown value \"grub\", expected \"lpxelinux\",",
            ),
            (
                "[pxe]\nipxe = \"grub\"\n",
                "ka.toml:2:8: ipxe: unknown value \"grub\", expected \"snponly\", \"ipxe\", or a file",
            ),
            ("[pxe]\nipxe = \"/srv/vmlinuz\"\n", "ka.toml:2:8: ipxe: /srv/vmlinuz: expected a file NAME.efi"),
            ("[pxe]\nlocal_pxelinux = \"LOCALBOOT 1\"\n", "ka.toml:2:18: local_pxelinux: unknown value"),
            ("[pxe]\nlocal_ipxe = \"exit\"\n", "ka.toml:2:14: local_ipxe: unknown value \"exit\""),
            ("[pxe.machine.\"52:54:00:12:34\"]\n", "ka.toml:1:14: expected a hardware address such as"),
            (
                "[pxe.machine.\"01:00:5e:00:00:01\"]\n",
                "ka.toml:1:14: '01:00:5e:00:00:01' is not a single machine's",
            ),
            ("[pxe.machine.\"52:54:00:12:34:56\"]\nbios = \"x\"\n", "ka.toml:2:8: bios: unknown value"),
            (
                "[pxe.machine.\"52:54:00:12:34:56\"]\nrange = \"x\"\n",
                "ka.toml:2:1: unknown field `range`, expected one of `bios`",
            ),
            (
                "[pxe.machine.525400123456]\n[pxe.machine.\"52:54:00:12:34:56\"]\n",
                "ka.toml:2:14: the machine 52:54:00:12:34:56 has a section already",
            ),
            ("[[pxe.subnet]]\nrouter = \"10.1.0.1\"\n", "ka.toml:1:1: [[pxe.subnet]] lacks range, netmask"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(start) && !error.contains('\n'), "{text}: {error}");
        }
    }

    fn subnet(range: &str, netmask: &str, router: &str) -> String {
        format!("[[pxe.subnet]]\nrange = \"{range}\"\nnetmask = \"{netmask}\"\nrouter = \"{router}\"\n")
    }

    #[test]
    fn networks_are_judged_with_their_masks_and_routers() {
        for (subnets, fault) in [
            (vec![("10.1.0.9,10.1.0.20", "255.255.255.0", "10.1.0.1")], ""),
            (vec![("10.1.0.9,10.1.1.20", "255.255.254.0", "10.1.1.254")], ""),
            (
                vec![
                    ("10.1.0.9,10.1.0.20", "255.255.255.0", "10.1.0.1"),
                    ("10.1.0.30,10.1.0.40", "255.255.255.0", "10.1.0.1"),
                ],
                "",
            ),
            (
                vec![("10.1.0.9,10.1.1.20", "255.255.255.0", "10.1.0.1")],
                "2:9: the range 10.1.0.9,10.1.1.20 is not within one network of the netmask 255.255.255.0",
            ),
            (
                vec![("10.1.0.0,10.1.0.20", "255.255.255.0", "10.1.0.30")],
                "2:9: the range 10.1.0.0,10.1.0.20 is not",
            ),
            (
                vec![("10.1.0.9,10.1.0.255", "255.255.255.0", "10.1.0.1")],
                "2:9: the range 10.1.0.9,10.1.0.255 is not",
            ),
            (vec![("10.1.0.9,10.1.0.20", "255.0.255.0", "10.1.0.1")], "3:11: 255.0.255.0 is not the netmask"),
            (
                vec![("10.1.0.9,10.1.0.20", "24", "10.1.0.1")],
                "3:11: '24' is not a netmask, such as 255.255.255.0",
            ),
            (
                vec![("10.1.0.9,10.1.0.20", "255.255.255.0", "10.2.0.1")],
                "4:10: the router 10.2.0.1 is not within 10.1.0.0/24",
            ),
            (
                vec![("10.1.0.9,10.1.0.20", "255.255.255.0", "10.1.0.9")],
                "4:10: the router 10.1.0.9 is within the range",
            ),
            (
                vec![
                    ("10.1.0.9,10.1.0.20", "255.255.255.0", "10.1.0.1"),
                    ("10.1.0.20,10.1.0.40", "255.255.255.0", "10.1.0.1"),
                ],
                "5:1: the range 10.1.0.20,10.1.0.40 overlaps the range 10.1.0.9,10.1.0.20 of line 1",
            ),
            (
                vec![
                    ("10.1.0.9,10.1.0.20", "255.255.255.0", "10.1.0.1"),
                    ("10.1.0.130,10.1.0.140", "255.255.255.128", "10.1.0.129"),
                ],
                "5:1: this network is also that of line 1, with another netmask or router",
            ),
        ] {
            let text: String =
                subnets.iter().map(|(range, mask, router)| subnet(range, mask, router)).collect();
            let error = parse(&text).err().unwrap_or_default();
            let fault = if fault.is_empty() { String::new() } else { format!("ka.toml:{fault}") };
            assert!(error.starts_with(&fault) && error.is_empty() == fault.is_empty(), "{text}: {error}");
        }
        let own = format!(
            "[pxe]\nrange = \"10.1.0.5,10.1.0.9\"\n{}",
            subnet("10.1.0.9,10.1.0.20", "255.255.255.0", "10.1.0.1")
        );
        let error = parse(&own).unwrap_err();
        assert!(
            error.starts_with("ka.toml:3:1: the range 10.1.0.9,10.1.0.20 overlaps")
                && error.contains("of line 2"),
            "{error}"
        );
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let text = "[ports]\nhttp = 0.5\nhtpt = 1\n[pxe]\nbios = 1\nlocal_ipxe = \"\"\n[pxe.machine.\"52:54\"]\nlocal_ipxe = 2\n";
        let text = format!("{text}{}[pex]\n", subnet("10.1.0.9,10.1.1.20", "255.255.255.0", "10.2.0.1"));
        let error = parse(&text).unwrap_err();
        let places: Vec<_> = error.lines().map(|line| line.split(' ').next().unwrap()).collect();
        let expected = ["2:8", "3:1", "5:8", "6:14", "7:14", "8:14", "10:9", "13:2"];
        assert_eq!(places, expected.map(|place| format!("ka.toml:{place}:")), "{error}");
    }

    #[test]
    fn files_of_one_name_cannot_both_be_served() {
        let machine = "[pxe.machine.\"52:54:00:12:34:56\"]\nipxe = \"/b/own.efi\"\n";
        let error = parse(&format!("[pxe]\nipxe = \"/a/own.efi\"\n{machine}")).unwrap_err();
        assert_eq!(
            error,
            "ka.toml:1:1: /a/own.efi and /b/own.efi have one name, under which only one of them can be served"
        );
        assert!(parse(&format!("[pxe]\nipxe = \"/b/own.efi\"\n{machine}")).is_ok());
        assert!(
            parse(
                "[pxe]\nipxe = \"/a/snponly.efi\"\n[pxe.machine.\"52:54:00:12:34:56\"]\nipxe = \"snponly\"\n"
            )
            .is_err()
        );
    }

    #[test]
    fn only_the_default_file_may_be_missing() {
        let error = Config::load(Path::new("/nonexistent/ka.toml")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nonexistent/ka.toml");
    }
}
