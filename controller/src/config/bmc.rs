//! `/etc/ka/bmc.toml`: how machines are switched on and off, and the passwords for that.
//!
//! Only root may read the file. Each `[[bmc]]` applies to a list of nodes; a setting that differs between
//! them is a list of the same length, such as `address = "10.1.0.[1-40]"`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ka::mac::Mac;
use ka::plan::Secret;
use ka_host::secrets::{self, SecretError};

use super::read::{Located, Section, Source};
use crate::lists::node_set::{Groups, expand};

/// The ports of Wake-on-LAN and IPMI.
const WAKE_PORT: u16 = 9;
const IPMI_PORT: u16 = 623;

/// The switching methods of all machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bmcs {
    /// A table of the machines' names ([`crate::lists::hosts`]), for machines that never joined a run.
    pub hosts: Option<PathBuf>,
    /// Keyed by the word that names the node, in lower case.
    by_node: BTreeMap<String, Method>,
}

/// The switching method of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// Its card wakes it (Wake-on-LAN).
    Wake(Wake),
    /// IPMI, through ipmitool.
    Ipmi(Ipmi),
    /// Redfish.
    Redfish(Redfish),
    /// A site's own shell command.
    Command(String),
}

/// Wake-on-LAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wake {
    /// The card to wake, if it is not the boot card.
    pub mac: Option<Mac>,
    /// The card's password, 4 or 6 bytes.
    pub secure_on: Option<Vec<u8>>,
    /// The packet's destination: a network's broadcast address, or the machine's own; `None` for all networks
    /// of this host.
    pub broadcast: Option<Ipv4Addr>,
    /// The only interface through which the packet is sent.
    pub interface: Option<String>,
    /// The UDP port.
    pub port: u16,
}

impl Default for Wake {
    fn default() -> Self {
        Self { mac: None, secure_on: None, broadcast: None, interface: None, port: WAKE_PORT }
    }
}

/// A BMC's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// A BMC that speaks IPMI 2.0 (RMCP+).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipmi {
    /// The BMC's address or name.
    pub address: String,
    /// Its UDP port.
    pub port: u16,
    /// The user.
    pub login: Login,
    /// The cipher suite; if `None`, ipmitool chooses.
    pub cipher: Option<u8>,
}

/// A BMC that speaks Redfish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redfish {
    /// The base URL: `https://10.1.0.7`, without a trailing slash.
    pub url: String,
    /// The user.
    pub login: Login,
    /// The system, if the BMC has several: a path or the last part of one.
    pub system: Option<String>,
    /// How its certificate is verified.
    pub trust: Trust,
}

/// How a certificate is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Not at all: no connection is made, and the error names the certificate's fingerprint.
    Nothing,
    /// It is signed by this authority, or is this very certificate.
    Authority(PathBuf),
    /// It has this SHA-256.
    Fingerprint([u8; 32]),
    /// The connection is not encrypted.
    Plain,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BmcError {
    /// The file, or a file with a password, cannot be read, or other users can read it.
    #[error("{}: {error}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// The problem.
        error: SecretError,
    },
    /// The file has invalid content.
    #[error("{}", .0.join("\n"))]
    Content(Vec<String>),
}

impl Bmcs {
    /// Reads the file; a missing file is empty.
    ///
    /// # Errors
    /// [`BmcError`] with file, line and column.
    pub fn load(path: &Path, groups: &Groups) -> Result<Self, BmcError> {
        match secrets::read(path) {
            Ok(text) => Self::parse(path, &text, groups),
            Err(SecretError::Read(e)) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(BmcError::Secret { path: path.to_owned(), error }),
        }
    }

    fn parse(path: &Path, text: &str, groups: &Groups) -> Result<Self, BmcError> {
        let (source, mut file) = Source::open(path, text);
        let mut bmcs = Self { hosts: file.get("hosts"), ..Self::default() };
        for section in file.sections("bmc") {
            bmcs.add(section, groups);
        }
        file.end();
        let faults = source.faults();
        if faults.is_empty() { Ok(bmcs) } else { Err(BmcError::Content(faults)) }
    }

    fn add(&mut self, mut section: Section<'_>, groups: &Groups) {
        let list = |text: &str| expand(text, groups).map_err(|error| error.to_string());
        let nodes = section.parse("nodes", list);
        let method = section.parse("method", |text| Ok::<_, String>(text.to_owned()));
        let methods = match method.as_ref().map(|method| method.value.as_str()) {
            Some("wake") => vec![Method::Wake(wake(&mut section))],
            Some("ipmi") => ipmi(&mut section),
            Some("redfish") => redfish(&mut section),
            Some("command") => command(&mut section),
            other => {
                let problem = "method: expected \"wake\", \"ipmi\", \"redfish\" or \"command\"";
                match (other, &method) {
                    (Some(_), Some(method)) => section.fault_at(method, problem),
                    _ => section.fault(problem),
                }
                return;
            }
        };
        let Some(nodes) = nodes else {
            if !section.has("nodes") {
                section.fault("[[bmc]] lacks nodes");
            }
            section.end();
            return;
        };
        if methods.is_empty() {
            section.end();
            return;
        }
        if methods.len() != 1 && methods.len() != nodes.value.len() {
            let (count, parts) = (nodes.value.len(), methods.len());
            section.fault_at(
                &nodes,
                format!("{count} nodes, but {parts} addresses or systems: both lists are as long"),
            );
        }
        for (node, method) in nodes.value.iter().zip(methods.iter().cycle()) {
            if self.by_node.insert(node.to_ascii_lowercase(), method.clone()).is_some() {
                section.fault_at(&nodes, format!("{node} has a [[bmc]] already"));
            }
        }
        section.end();
    }

    /// How to switch the machine with one of these names.
    #[must_use]
    pub fn get<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Option<&Method> {
        names.into_iter().find_map(|name| self.by_node.get(&name.to_ascii_lowercase()))
    }
}

fn wake(section: &mut Section<'_>) -> Wake {
    let value = |located: Located<_>| located.value;
    Wake {
        mac: section
            .parse("mac", |text| text.parse().map_err(|e: ka::mac::MacError| e.to_string()))
            .map(value),
        secure_on: section.parse("secure-on", secure_on).map(|located| located.value),
        broadcast: section
            .parse("broadcast", |text| text.parse().map_err(|_| format!("'{text}' is not an IPv4 address")))
            .map(|located| located.value),
        interface: section.get("interface"),
        port: section.get("port").unwrap_or(WAKE_PORT),
    }
}

/// A password: `00:11:22:33:44:55` or `10.0.0.1`. Error messages never repeat it.
fn secure_on(text: &str) -> Result<Vec<u8>, String> {
    let hex: Option<Vec<u8>> = text
        .split([':', '-'])
        .map(|byte| u8::from_str_radix(byte, 16).ok().filter(|_| byte.len() == 2))
        .collect();
    let octets = text.parse::<Ipv4Addr>().ok().map(|address| address.octets().to_vec());
    octets
        .or(hex.filter(|bytes| bytes.len() == 6 || bytes.len() == 4))
        .ok_or_else(|| "secure-on: expected 6 bytes such as 00:11:22:33:44:55, or 4 such as 10.0.0.1".into())
}

/// The user and the password, given directly or in a file.
fn login(section: &mut Section<'_>) -> Login {
    let user: Option<String> = section.get("user");
    let password: Option<String> = section.get("password");
    let file = section.parse("password-file", |text| {
        let path = Path::new(text);
        let text = secrets::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let first = text.lines().next().filter(|line| !line.is_empty());
        first.map(str::to_owned).ok_or_else(|| format!("{}: its first line is empty", path.display()))
    });
    if password.is_some() && file.is_some() {
        section.fault("[[bmc]] has both password and password-file");
    }
    let password = password.or(file.map(|file| file.value));
    if user.is_none() || password.is_none() {
        section.fault("[[bmc]] needs user, and password or password-file");
    }
    Login { user: user.unwrap_or_default(), password: Secret(password.unwrap_or_default()) }
}

/// A list of texts in one setting, such as addresses.
fn several(section: &mut Section<'_>, name: &'static str) -> Option<Vec<String>> {
    let list = |text: &str| expand(text, &Groups::new()).map_err(|error| error.to_string());
    section.parse(name, list).map(|located| located.value)
}

fn ipmi(section: &mut Section<'_>) -> Vec<Method> {
    let addresses = several(section, "address");
    let (login, cipher) = (login(section), section.get("cipher"));
    let port = section.get("port").unwrap_or(IPMI_PORT);
    let addresses = addresses.unwrap_or_else(|| {
        section.fault("[[bmc]] lacks address");
        Vec::new()
    });
    addresses
        .into_iter()
        .map(|address| Method::Ipmi(Ipmi { address, port, login: login.clone(), cipher }))
        .collect()
}

fn redfish(section: &mut Section<'_>) -> Vec<Method> {
    let addresses = several(section, "address");
    let systems = several(section, "system");
    let login = login(section);
    let authority: Option<PathBuf> = section.get("ca");
    let fingerprint = section.parse("fingerprint", fingerprint).map(|located| located.value);
    let trust = match (authority, fingerprint) {
        (Some(_), Some(_)) => {
            section.fault("[[bmc]] has both ca and fingerprint");
            Trust::Nothing
        }
        (Some(file), None) => Trust::Authority(file),
        (None, Some(hash)) => Trust::Fingerprint(hash),
        (None, None) => Trust::Nothing,
    };
    let Some(addresses) = addresses else {
        section.fault("[[bmc]] lacks address");
        return Vec::new();
    };
    let count = addresses.len().max(systems.as_ref().map_or(0, Vec::len));
    if [addresses.len(), systems.as_ref().map_or(1, Vec::len)].iter().any(|len| *len != 1 && *len != count) {
        section.fault("[[bmc]] has as many systems as addresses, or one of them");
    }
    let mut methods = Vec::new();
    for (number, address) in addresses.iter().cycle().take(count).enumerate() {
        let system = systems.as_ref().and_then(|systems| systems.get(number % systems.len()).cloned());
        let trust = if address.starts_with("http://") { Trust::Plain } else { trust.clone() };
        let url = if address.contains("://") { address.clone() } else { format!("https://{address}") };
        let url = url.trim_end_matches('/').to_owned();
        methods.push(Method::Redfish(Redfish { url, login: login.clone(), system, trust }));
    }
    methods
}

/// A SHA-256 in hexadecimal, with or without colons.
fn fingerprint(text: &str) -> Result<[u8; 32], String> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let bytes: Option<Vec<u8>> =
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect();
    bytes
        .filter(|_| digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| "fingerprint: expected the certificate's SHA-256, 64 hexadecimal digits".into())
}

fn command(section: &mut Section<'_>) -> Vec<Method> {
    match section.get("command") {
        Some(command) => vec![Method::Command(command)],
        None => {
            if !section.has("command") {
                section.fault("[[bmc]] lacks command");
            }
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn parse(text: &str) -> Result<Bmcs, String> {
        let groups = [("rack1".to_owned(), "n[1-2]".to_owned())].into();
        Bmcs::parse(Path::new("bmc.toml"), text, &groups).map_err(|error| error.to_string())
    }

    #[test]
    fn each_node_has_its_own() {
        let text = "\
[[bmc]]
nodes = \"@rack1\"
method = \"ipmi\"
address = \"10.1.0.[7-8]\"
user = \"admin\"
password = \"p4ss\"
cipher = 3
[[bmc]]
nodes = \"52:54:00:77:01:01\"
method = \"wake\"
secure-on = \"00-11-22-33-44-55\"
broadcast = \"10.0.0.255\"
[[bmc]]
nodes = \"blade[1-3]\"
method = \"redfish\"
address = \"10.1.1.1\"
system = \"Node.[1-3]\"
user = \"admin\"
password = \"p4ss\"
[[bmc]]
nodes = \"pdu\"
method = \"command\"
command = \"site-power\"
";
        let bmcs = parse(text).unwrap();
        let Some(Method::Ipmi(ipmi)) = bmcs.get(["N2"]) else { panic!("{bmcs:?}") };
        assert_eq!((ipmi.address.as_str(), ipmi.port, ipmi.cipher), ("10.1.0.8", 623, Some(3)));
        let Some(Method::Redfish(redfish)) = bmcs.get(["blade3"]) else { panic!("{bmcs:?}") };
        assert_eq!((redfish.url.as_str(), redfish.system.as_deref()), ("https://10.1.1.1", Some("Node.3")));
        let Some(Method::Wake(wake)) = bmcs.get(["x", "52:54:00:77:01:01"]) else { panic!("{bmcs:?}") };
        assert_eq!((wake.secure_on.as_deref(), wake.port), (Some(&[0, 0x11, 0x22, 0x33, 0x44, 0x55][..]), 9));
        assert_eq!(bmcs.get(["pdu"]), Some(&Method::Command("site-power".into())));
        assert_eq!(bmcs.get(["n3"]), None);
        assert!(!format!("{bmcs:?}").contains("p4ss"), "passwords are not shown");
    }

    #[test]
    fn what_is_wrong_has_its_place_and_shows_no_password() {
        let ipmi = "[[bmc]]\nnodes = \"n1\"\nmethod = \"ipmi\"\naddress = \"a\"\nuser = \"u\"\n";
        for (text, faults) in [
            ("[[bmc]]\nnodes = \"n1\"\n".to_owned(), "bmc.toml:1:1: method: expected \"wake\""),
            ("[[bmc]]\nnodes = \"n1\"\nmethod = \"ssh\"\n".to_owned(), "bmc.toml:3:10: method: expected"),
            (format!("{ipmi}pasword = \"p4ss\"\n"), "bmc.toml:1:1: [[bmc]] needs user, and password"),
            (format!("{ipmi}pasword = \"p4ss\"\n"), "bmc.toml:6:1: unknown field `pasword`"),
            (format!("{ipmi}password = 4\n"), "bmc.toml:6:12: "),
            (format!("{ipmi}password = \"p4ss\n"), "bmc.toml:6:"),
            (format!("{ipmi}password-file = \"/nonexistent\"\n"), "bmc.toml:6:17: /nonexistent: "),
            (
                ipmi.replace("\"n1\"", "\"n[1-3]\"").replace("\"a\"", "\"a[1-2]\"") + "password = \"p4ss\"\n",
                "bmc.toml:2:9: 3 nodes, but 2 addresses",
            ),
            (
                format!("{ipmi}password = \"p4ss\"\n{ipmi}password = \"p4ss\"\n"),
                "bmc.toml:8:9: n1 has a [[bmc]] already",
            ),
            (
                "[[bmc]]\nnodes = \"n1\"\nmethod = \"wake\"\nsecure-on = \"p4ss\"\n".to_owned(),
                "4:13: secure-on",
            ),
            ("[[bmc]]\nnodes = \"n[1\"\nmethod = \"wake\"\n".to_owned(), "bmc.toml:2:9: 'n[1', column 2"),
            ("[bcm]\n".to_owned(), "bmc.toml:1:2: unknown field `bcm`"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(faults) && !error.contains("p4ss"), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bmc.toml");
        let load = || Bmcs::load(&path, &Groups::new()).map_err(|error| error.to_string());
        assert_eq!(load(), Ok(Bmcs::default()));
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(load().unwrap_err().contains("bmc.toml: others can read it (mode 0640)"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(load(), Ok(Bmcs::default()));
    }
}
