//! What each machine boots: turns the runs' leases into boot loader files.
//!
//! Both loaders fetch a file named after the machine's hardware address, and then `default`. Their own
//! modules ([`super::pxelinux`], [`super::ipxe`]) write these files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};

use super::run_image;
use crate::config::pxe::Booting;
use crate::rendezvous::lease::{Allowed, Lease};
use ka::mac::Mac;

/// The file for machines without one of their own.
pub const DEFAULT: &str = "default";

/// A machine's boot target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// Its own disk.
    Local,
    /// Stage1, for a run.
    Kamethod {
        /// The session that it asks for.
        session: String,
        /// The controller's address, if it differs from the boot server's.
        server: Option<SocketAddr>,
        /// The controller's port at that address, if it is not the default.
        port: Option<u16>,
        /// An initrd with its own key.
        image: Option<String>,
        /// A second place for its log.
        store_log: Option<String>,
    },
}

/// What the files contain besides the boot target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The boot server's address.
    pub address: Ipv4Addr,
    /// The controller's port there, if it is not the default.
    pub port: Option<u16>,
    /// The HTTP port there, for kernel and initrd.
    pub http: u16,
    /// Kernel parameters, such as consoles.
    pub console: String,
    /// The VLAN with which the nodes tag their frames.
    pub vlan: Option<u16>,
    /// How machines load, and how they leave the boot loaders.
    pub booting: Booting,
    /// Machines with settings of their own; they always have their own files.
    pub machines: BTreeMap<Mac, Booting>,
    /// The initrd for a person who chooses `kamethod` by hand while a run waits.
    pub by_hand: Option<String>,
}

impl Settings {
    /// The settings of the machines that read this file.
    #[must_use]
    pub fn booting(&self, file: &str) -> &Booting {
        file.parse().ok().and_then(|mac| self.machines.get(&mac)).unwrap_or(&self.booting)
    }
}

/// The boot target in each file, by file name. Machines without a file get `default`.
#[must_use]
pub fn choose(leases: &[(String, Lease)], settings: &Settings) -> BTreeMap<String, Boot> {
    let mut menu = BTreeMap::from([(DEFAULT.to_owned(), open_to_all(leases))]);
    let named = leases.iter().flat_map(|(_, lease)| named(lease));
    let known: BTreeSet<Mac> = named.chain(settings.machines.keys().copied()).collect();
    for mac in known {
        menu.insert(mac.pxelinux_name(), for_machine(leases, mac));
    }
    menu
}

fn open_to_all(leases: &[(String, Lease)]) -> Boot {
    leases.iter().find(|(_, lease)| lease.allowed == Allowed::Any).map_or(Boot::Local, kamethod)
}

/// A run that names the machine takes precedence over one that takes any machine. A machine that has finished
/// one run does not count as "any" for another, or it would be erased again at its next reboot.
fn for_machine(leases: &[(String, Lease)], mac: Mac) -> Boot {
    let waits_for = |lease: &Lease| match &lease.allowed {
        Allowed::Any => false,
        Allowed::Listed(macs) => macs.contains(&mac) && !lease.done.contains(&mac),
    };
    if let Some(run) = leases.iter().find(|(_, lease)| waits_for(lease)) {
        return kamethod(run);
    }
    if leases.iter().any(|(_, lease)| lease.done.contains(&mac)) {
        return Boot::Local;
    }
    open_to_all(leases)
}

fn named(lease: &Lease) -> BTreeSet<Mac> {
    let mut macs = lease.done.clone();
    if let Allowed::Listed(listed) = &lease.allowed {
        macs.extend(listed);
    }
    macs
}

fn kamethod((run, lease): &(String, Lease)) -> Boot {
    let Lease { session, server, port, store_log, join, .. } = lease.clone();
    Boot::Kamethod { session, server, port, image: join.map(|_| run_image::file(run)), store_log }
}

impl Boot {
    /// The initrd, if it is not the common one.
    #[must_use]
    pub fn image(&self) -> Option<&str> {
        match self {
            Self::Local => None,
            Self::Kamethod { image, .. } => image.as_deref(),
        }
    }
}

/// The initrd that a machine loads, including when a person chooses `kamethod` by hand.
#[must_use]
pub fn initrd<'a>(boot: &'a Boot, settings: &'a Settings) -> &'a str {
    boot.image().or(settings.by_hand.as_deref()).unwrap_or("all.rdz")
}

/// The kernel command line, except for the initrd and the boot interface, which the loaders add.
#[must_use]
pub fn kernel_words(boot: &Boot, settings: &Settings) -> String {
    let mut line = String::from("automatic=method:ka,interface:auto,network:dhcp kamethod rw");
    if !settings.console.is_empty() {
        push(&mut line, format_args!("{}", settings.console));
    }
    if let Some(vlan) = settings.vlan {
        push(&mut line, format_args!("ka.vlan={vlan}"));
    }
    let (session, server, port, store_log) = match boot {
        Boot::Local => (None, None, None, None),
        Boot::Kamethod { session, server, port, store_log, .. } => {
            (Some(session), *server, *port, store_log.as_deref())
        }
    };
    match (server, port.or(settings.port)) {
        (Some(server), _) => push(&mut line, format_args!("ka.server={server}")),
        (None, Some(port)) => push(&mut line, format_args!("ka.server={}:{port}", settings.address)),
        (None, None) => push(&mut line, format_args!("ka.server={}", settings.address)),
    }
    if let Some(session) = session {
        push(&mut line, format_args!("ka.session={session}"));
    }
    if let Some(url) = store_log {
        push(&mut line, format_args!("ka.store_log={url}"));
    }
    line
}

fn push(line: &mut String, word: std::fmt::Arguments<'_>) {
    // Writing to a String never fails.
    let _ = write!(line, " {word}");
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::pxe::LocalPxelinux;

    /// Settings for the tests of the files.
    pub(in crate::pxe) fn settings() -> Settings {
        Settings {
            address: Ipv4Addr::new(10, 0, 0, 1),
            port: None,
            http: 30766,
            console: "console=ttyS0".into(),
            vlan: None,
            booting: Booting::default(),
            machines: BTreeMap::new(),
            by_hand: None,
        }
    }

    fn mac(last: u8) -> Mac {
        format!("52:54:00:00:00:{last:02x}").parse().unwrap()
    }

    fn lease(session: &str, allowed: &[u8], done: &[u8]) -> (String, Lease) {
        let set = |macs: &[u8]| macs.iter().map(|&m| mac(m)).collect();
        let allowed = if allowed == [0] { Allowed::Any } else { Allowed::Listed(set(allowed)) };
        let lease = Lease { done: set(done), ..Lease::new(session, allowed) };
        (format!("run-{session}"), lease)
    }

    #[test]
    fn who_boots_what() {
        const ANY: &[u8] = &[0];
        // Leases; then "default" and the files of single machines with what they boot.
        type Case<'a> = (&'a [(String, Lease)], &'a [(&'a str, &'a str)]);
        let cases: [Case; 7] = [
            (&[], &[("default", "local")]),
            (&[lease("a", ANY, &[])], &[("default", "a")]),
            (&[lease("a", ANY, &[1])], &[("01-52-54-00-00-00-01", "local"), ("default", "a")]),
            (
                &[lease("a", &[1, 2], &[2])],
                &[("01-52-54-00-00-00-01", "a"), ("01-52-54-00-00-00-02", "local"), ("default", "local")],
            ),
            // Named by one run, any for another: the one that names it, and then none.
            (
                &[lease("a", ANY, &[]), lease("b", &[1], &[])],
                &[("01-52-54-00-00-00-01", "b"), ("default", "a")],
            ),
            (
                &[lease("a", ANY, &[]), lease("b", &[1], &[1])],
                &[("01-52-54-00-00-00-01", "local"), ("default", "a")],
            ),
            // Done with one run, named by the next.
            (
                &[lease("a", &[1], &[1]), lease("b", &[1], &[])],
                &[("01-52-54-00-00-00-01", "b"), ("default", "local")],
            ),
        ];
        for (leases, expected) in cases {
            let menu = choose(leases, &settings());
            let found: Vec<_> = menu
                .iter()
                .map(|(file, boot)| {
                    let boot = match boot {
                        Boot::Local => "local",
                        Boot::Kamethod { session, .. } => session,
                    };
                    (file.as_str(), boot)
                })
                .collect();
            assert_eq!(found, expected, "{leases:?}");
        }
    }

    #[test]
    fn a_machine_with_settings_of_its_own_has_a_file_of_its_own() {
        let own = Booting { local_pxelinux: LocalPxelinux::Chain, ..Booting::default() };
        let settings = Settings { machines: [(mac(7), own.clone())].into(), ..settings() };
        let file = mac(7).pxelinux_name();
        assert_eq!(choose(&[], &settings)[&file], Boot::Local);
        assert!(matches!(choose(&[lease("a", &[0], &[])], &settings)[&file], Boot::Kamethod { .. }));
        assert_eq!(choose(&[lease("a", &[0], &[7])], &settings)[&file], Boot::Local);
        assert_eq!(settings.booting(&file), &own);
        assert_eq!(settings.booting(DEFAULT), &Booting::default());
    }

    #[test]
    fn where_the_controller_is() {
        let settings = |port| Settings { port, console: String::new(), ..settings() };
        let boot = |server: Option<&str>| Boot::Kamethod {
            session: "s".into(),
            server: server.map(|s| s.parse().unwrap()),
            port: None,
            image: None,
            store_log: None,
        };
        for (server, port, word) in [
            (None, None, "rw ka.server=10.0.0.1 ka.session=s"),
            (None, Some(4000), "rw ka.server=10.0.0.1:4000 ka.session=s"),
            (Some("10.0.0.2:4001"), Some(4000), "rw ka.server=10.0.0.2:4001 ka.session=s"),
        ] {
            let text = kernel_words(&boot(server), &settings(port));
            assert!(text.ends_with(word), "{text}");
        }
    }

    #[test]
    fn the_vlan_reaches_the_agent() {
        let settings = Settings { vlan: Some(5), ..settings() };
        let text = kernel_words(&choose(&[lease("s", &[0], &[])], &settings)[DEFAULT], &settings);
        assert_eq!(ka::cmdline::parse(&text).unwrap().vlan, Some(5), "{text}");
    }

    #[test]
    fn where_the_logs_go() {
        let settings = settings();
        let store_log = Some("ftp://me@logs/ka".to_owned());
        let lease = Lease { store_log, ..lease("s", &[0], &[]).1 };
        let text = kernel_words(&choose(&[("r".into(), lease)], &settings)[DEFAULT], &settings);
        assert!(text.ends_with(" ka.session=s ka.store_log=ftp://me@logs/ka"), "{text}");
        let agents = ka::cmdline::parse(&text).unwrap();
        assert!(agents.store_log.is_some() && agents.warnings.is_empty(), "{agents:?}");
    }
}
