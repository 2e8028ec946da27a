//! The golden node's configuration: `/etc/ka/ka.toml`, and where ka keeps its files.
//!
//! Everything has a default, so that a file is only needed for what differs. An unknown word is an
//! error: a misspelt `interface` must not be taken for none.

pub mod keys;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ka::wire;
use serde::{Deserialize, Deserializer};

use crate::values::{self, Range};

/// Where the configuration is looked for.
pub const DEFAULT_FILE: &str = "/etc/ka/ka.toml";

/// The file that `kactl init` writes: every setting with its default, commented out.
pub const TEMPLATE: &str = include_str!("config/ka.toml");

/// Where the boot files are had over HTTP: beside the nodes' ports, for a golden node may be a web server too.
const HTTP_PORT: u16 = 30766;
const BOOTED_PORT: u16 = 30767;

/// The configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where ka keeps its files.
    pub directories: Directories,
    /// The ports that the nodes use.
    pub ports: Ports,
    /// Where the nodes are.
    pub net: Net,
    /// How machines are booted over the network.
    pub pxe: Pxe,
}

/// Where the nodes are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Net {
    /// The only interface through which nodes come.
    pub interface: Option<String>,
}

/// Where ka keeps its files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Directories {
    /// What came with ka: the agent and the scripts that make images.
    pub lib: PathBuf,
    /// What `kactl image` made: `boot/` and `stage2/`.
    pub state: PathBuf,
    /// The nodes' logs, a directory for each run.
    pub log: PathBuf,
    /// What is gone after a reboot: leases of runs, dnsmasq's files.
    pub run: PathBuf,
    /// The keys.
    pub keys: PathBuf,
}

impl Default for Directories {
    fn default() -> Self {
        Self {
            lib: "/usr/lib/ka".into(),
            state: "/var/lib/ka".into(),
            log: "/var/log/ka".into(),
            run: "/run/ka".into(),
            keys: "/etc/ka/keys".into(),
        }
    }
}

impl Directories {
    /// The root of what TFTP serves.
    #[must_use]
    pub fn boot(&self) -> PathBuf {
        self.state.join("boot")
    }

    /// The tree that the session `getstage2` sends.
    #[must_use]
    pub fn stage2(&self) -> PathBuf {
        self.state.join("stage2")
    }

    /// What belongs to this machine as a golden node, and to none of its copies.
    #[must_use]
    pub fn own(&self) -> Vec<PathBuf> {
        vec![self.state.clone(), self.log.clone(), self.keys.clone()]
    }

    /// The leases of the runs that wait or work.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.run.join("runs")
    }
}

/// The ports that the nodes use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ports {
    /// Control connections, TCP.
    pub control: u16,
    /// The stream, from member to member, TCP.
    pub data: u16,
    /// The boot files, TCP.
    pub http: u16,
    /// Where nodes tell that they run from their own disks, TCP.
    pub booted: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { control: wire::CONTROL_PORT, data: wire::DATA_PORT, http: HTTP_PORT, booted: BOOTED_PORT }
    }
}

/// How machines are booted over the network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pxe {
    /// The only interface on which DHCP and TFTP are served.
    pub interface: Option<String>,
    /// The address of this machine on it, if it has several.
    pub address: Option<Ipv4Addr>,
    /// The addresses that DHCP gives; without it, those of the interface's network.
    #[serde(deserialize_with = "range")]
    pub range: Option<Range>,
    /// Words for the nodes' kernel, such as its consoles.
    #[serde(deserialize_with = "kernel_words")]
    pub console: String,
    /// The VLAN whose tag the nodes' frames carry once they have booted; none without tags.
    #[serde(deserialize_with = "vlan")]
    pub vlan: Option<u16>,
}

impl Default for Pxe {
    fn default() -> Self {
        Self {
            interface: None,
            address: None,
            range: None,
            console: "console=tty0 console=ttyS0,115200".into(),
            vlan: None,
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file says something that ka does not understand.
    #[error("{}:{line}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
}

impl Config {
    /// Reads the configuration. The default file may be missing, any other must be there.
    ///
    /// # Errors
    /// [`ConfigError`] with the file and, for its content, the line.
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
        toml::from_str(text).map_err(|e| {
            let start = e.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|&b| b == b'\n').count() + 1;
            ConfigError::Content { path: path.to_owned(), line, message: e.message().replace('\n', ", ") }
        })
    }
}

fn range<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Range>, D::Error> {
    let text = String::deserialize(source)?;
    values::range(&text).map(Some).map_err(serde::de::Error::custom)
}

/// A line break here would be a line of pxelinux's own.
fn vlan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let id = u16::deserialize(deserializer)?;
    if (1..=4094).contains(&id) {
        Ok(Some(id))
    } else {
        Err(serde::de::Error::custom("expected a VLAN from 1 to 4094"))
    }
}

fn kernel_words<'de, D: Deserializer<'de>>(source: D) -> Result<String, D::Error> {
    let text = String::deserialize(source)?;
    if text.chars().any(|c| c.is_control() || !c.is_ascii()) {
        return Err(serde::de::Error::custom("expected one line of ASCII"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let shown = Config {
            net: Net { interface: Some("eth1".into()) },
            pxe: Pxe {
                interface: Some("eth1".into()),
                address: Some(Ipv4Addr::new(10, 0, 0, 1)),
                range: values::range("10.0.0.100,10.0.0.199").ok(),
                ..Pxe::default()
            },
            ..Config::default()
        };
        assert_eq!(parse(&uncommented), Ok(shown));
    }

    #[test]
    fn an_error_names_file_and_line() {
        for (text, start) in [
            ("\n[pxe]\ninterfaec = \"eth1\"\n", "ka.toml:3: unknown field `interfaec`"),
            ("[ports]\ncontrol = 70000\n", "ka.toml:2: "),
            ("[pxe]\n\nrange = \"10.0.0.9,10.0.0.2\"\n", "ka.toml:3: 10.0.0.9 is above 10.0.0.2"),
            ("[pxe]\nvlan = 4095\n", "ka.toml:2: expected a VLAN from 1 to 4094"),
            ("[pxe]\nconsole = \"a\\nLABEL x\"\n", "ka.toml:2: expected one line"),
            ("[pxe\n", "ka.toml:1: "),
            ("[directories]\nstate = 1\n", "ka.toml:2: "),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(start) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn only_the_default_file_may_be_missing() {
        let error = Config::load(Path::new("/nonexistent/ka.toml")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nonexistent/ka.toml");
    }
}
