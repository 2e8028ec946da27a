//! The values that options take, each checked where it is read so that nothing later meets a wrong one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use ka::plan::{After, Loader};
use ka::wire::session_names;

use super::boot::LoaderChoice;
use crate::run::names::{Naming, Pattern};
use crate::run::order::OrderSource;

/// A run's or a session's name: it becomes a file's name and a word of a kernel command line.
///
/// # Errors
/// What is wrong with it.
pub fn name(text: &str) -> Result<String, String> {
    if session_names::is_valid(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "a name is 1 to {} letters, digits and '-', '_', '.', and begins with none of '-' and '.'",
        session_names::MAX
    ))
}

/// A disk by its kernel name, with or without `/dev/`.
///
/// # Errors
/// What is wrong with it.
pub fn disk(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("/dev/").unwrap_or(text);
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || !name.chars().all(good) {
        return Err("a disk is named as the kernel names it: sda, nvme0n1".into());
    }
    Ok(name.to_owned())
}

/// A partition of the golden node by its kernel name, with or without `/dev/`, or by another path in `/dev`.
///
/// # Errors
/// What is wrong with it.
pub fn partition(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("/dev/").unwrap_or(text);
    if name.is_empty() || name.starts_with('/') || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(
            "a partition is named as the kernel names it: sda3, nvme0n1p3; or by a path in /dev".into()
        );
    }
    Ok(name.to_owned())
}

/// What a node does when it is done.
///
/// # Errors
/// What is wrong with it.
pub fn after(text: &str) -> Result<After, String> {
    match text {
        "reboot" => Ok(After::Reboot),
        "kexec" => Ok(After::Kexec),
        "poweroff" => Ok(After::Poweroff),
        "shell" => Ok(After::Shell),
        _ => Err("expected reboot, kexec, poweroff or shell".into()),
    }
}

/// A directory of the golden node, from its root.
///
/// # Errors
/// What is wrong with it.
pub fn directory(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain || path == Path::new("/") {
        return Err("a directory below / is given by its whole path, without '..'".into());
    }
    Ok(path.to_owned())
}

/// What `--order` takes: `address`, `file:FILE` or `switch:FILE`.
///
/// # Errors
/// What is wrong with it.
pub fn order(text: &str) -> Result<OrderSource, String> {
    match text.split_once(':') {
        None if text == "address" => Ok(OrderSource::Address),
        Some(("file", path)) if !path.is_empty() => Ok(OrderSource::File(path.into())),
        Some(("switch", path)) if !path.is_empty() => Ok(OrderSource::Switch(path.into())),
        _ => Err("expected 'address', 'file:FILE' or 'switch:FILE'".into()),
    }
}

/// What `-r` takes: a boot loader's name or `none`, and modules behind it: `grub --with=MODULE …`.
///
/// # Errors
/// What is wrong with it.
pub fn boot_loader(text: &str) -> Result<LoaderChoice, String> {
    let mut words = text.split_whitespace();
    let loader = words.next().and_then(Loader::of_name).ok_or_else(|| {
        let names = Loader::ALL.map(Loader::name).join("', '");
        format!("expected '{names}', then --with=MODULE for each module")
    })?;
    let mut modules = Vec::new();
    while let Some(word) = words.next() {
        let listed = match word.strip_prefix("--with=") {
            Some(modules) => modules,
            None if word == "--with" => words.next().unwrap_or_default(),
            None => return Err(format!("expected --with=MODULE, not '{word}'")),
        };
        for name in listed.split(',') {
            modules.push(module(name)?);
        }
    }
    Ok(LoaderChoice { loader, modules })
}

/// A kernel module's name.
///
/// # Errors
/// What is wrong with it.
pub fn module(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if text.is_empty() || !text.chars().all(good) {
        return Err(format!("'{text}' is no module's name"));
    }
    Ok(text.to_owned())
}

/// What `--hostname` takes: `dhcp`, `golden`, or a pattern.
///
/// # Errors
/// What is wrong with it.
pub fn naming(text: &str) -> Result<Naming, String> {
    match text {
        "dhcp" => Ok(Naming::Dhcp),
        "golden" => Ok(Naming::Golden),
        _ => Pattern::parse(text).map(Naming::Pattern),
    }
}

/// Nobody waits for longer than a year; and sums of times stay far from overflowing.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A time: seconds, or with a unit `s`, `m`, `h`.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (digits, scale) = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)]
        .into_iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)))
        .unwrap_or((text, 1.0));
    digits
        .parse::<f64>()
        .ok()
        .filter(|_| digits.starts_with(|c: char| c.is_ascii_digit()))
        .and_then(|n| Duration::try_from_secs_f64(n * scale).ok())
        .filter(|time| *time <= LONGEST)
        .ok_or_else(|| "a time is a number of seconds, or 1.5, 500ms, 90s, 10m, 2h".into())
}

/// A silence that means death, as [`duration`] takes it: below 100 ms a busy machine is dead, and no user waits for
/// more than an hour.
///
/// # Errors
/// What is wrong with it.
pub fn silence(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| {
        let sensible = Duration::from_millis(100)..=Duration::from_secs(3600);
        if sensible.contains(&time) { Ok(time) } else { Err("the time must be from 100ms to 1h".into()) }
    })
}

/// A time that is not zero, as [`duration`] takes it.
///
/// # Errors
/// What is wrong with it.
pub fn lasting(text: &str) -> Result<Duration, String> {
    duration(text)
        .and_then(|time| if time.is_zero() { Err("the time must not be zero".into()) } else { Ok(time) })
}

/// A share: a number from 0 to 1.
///
/// # Errors
/// What is wrong with it.
pub fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share is a number from 0 to 1, such as 0.1".into())
}

/// Where the controller listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address; unspecified for every address.
    pub address: IpAddr,
    /// The control port, if it was named.
    pub port: Option<u16>,
}

impl Default for Listen {
    fn default() -> Self {
        Self { address: Ipv4Addr::UNSPECIFIED.into(), port: None }
    }
}

/// What `--listen` takes: `ADDRESS` or `ADDRESS:PORT`, IPv6 with a port in brackets.
///
/// # Errors
/// What is wrong with it.
pub fn listen(text: &str) -> Result<Listen, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Listen { address, port: None });
    }
    text.parse::<SocketAddr>()
        .map(|a| Listen { address: a.ip(), port: Some(a.port()) })
        .map_err(|_| "expected ADDRESS or ADDRESS:PORT, such as 10.0.0.1 or [fe80::1]:30765".into())
}

/// A range of addresses that DHCP may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first address.
    pub first: Ipv4Addr,
    /// The last address.
    pub last: Ipv4Addr,
}

impl Range {
    /// How many addresses it has.
    #[must_use]
    pub fn count(self) -> u64 {
        u64::from(self.last.to_bits()) - u64::from(self.first.to_bits()) + 1
    }

    /// Whether it has this address.
    #[must_use]
    pub fn has(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.first, self.last)
    }
}

/// What `--range` takes: `FIRST,LAST`.
///
/// # Errors
/// What is wrong with it.
pub fn range(text: &str) -> Result<Range, String> {
    let (first, last) = text.split_once(',').ok_or("expected FIRST,LAST, such as 10.0.0.10,10.0.0.99")?;
    let address = |t: &str| t.trim().parse::<Ipv4Addr>().map_err(|_| format!("'{t}' is no IPv4 address"));
    let range = Range { first: address(first)?, last: address(last)? };
    if range.first > range.last {
        return Err(format!("{} is above {}", range.first, range.last));
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["kainstall", "room-2.a_b", "0"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        let long = "x".repeat(65);
        for bad in ["", ".", "../x", "-n", "a b", "a/b", "ä", "a\n", &long] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn boot_loaders() {
        for (text, loader, modules) in [
            ("grub", Loader::Grub, &[][..]),
            (" grub  --with=ata_piix,ahci --with piix ", Loader::Grub, &["ata_piix", "ahci", "piix"]),
            ("none", Loader::None, &[]),
            ("systemd-boot", Loader::SystemdBoot, &[]),
        ] {
            let modules = modules.iter().map(|module| (*module).to_owned()).collect();
            assert_eq!(boot_loader(text), Ok(LoaderChoice { loader, modules }), "{text}");
        }
        for bad in ["", "syslinux", "grub ata_piix", "grub --with=", "grub --with", "grub --with=a;b"] {
            assert!(boot_loader(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [("0", 0), ("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(
            (silence("0.1").is_ok(), silence("0").is_ok(), silence("2h").is_ok()),
            (true, false, false)
        );
        for bad in ["", "s", "-1", "1d", "inf", "nan", ".", "1e99", "1e18", "9000h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_to_listen_on() {
        for (text, address, port) in [
            ("10.0.0.1", "10.0.0.1", None),
            ("10.0.0.1:4000", "10.0.0.1", Some(4000)),
            ("::", "::", None),
            ("[::1]:1", "::1", Some(1)),
        ] {
            assert_eq!(listen(text), Ok(Listen { address: address.parse().unwrap(), port }), "{text}");
        }
        for bad in ["", "golden", "10.0.0.1:", "10.0.0.1:70000", "10.0.0"] {
            assert!(listen(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges() {
        let good = Range { first: Ipv4Addr::new(10, 0, 0, 2), last: Ipv4Addr::new(10, 0, 0, 9) };
        assert_eq!(range("10.0.0.2,10.0.0.9"), Ok(good));
        assert_eq!(range("10.0.0.2, 10.0.0.9"), Ok(good));
        for bad in ["", "10.0.0.2", "10.0.0.9,10.0.0.2", "a,b", "10.0.0.2,10.0.0.9,24"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn directories_and_disks() {
        assert!(directory("/var/tmp").is_ok());
        for bad in ["", "/", "tmp", "/a/../b", "./a"] {
            assert!(directory(bad).is_err(), "{bad}");
        }
        assert_eq!(disk("/dev/nvme0n1").as_deref(), Ok("nvme0n1"));
        for bad in ["", "/dev/", "../sda", "/dev/disk/by-id/x", "sda|"] {
            assert!(disk(bad).is_err(), "{bad}");
        }
    }
}
