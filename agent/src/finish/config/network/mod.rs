//! The node's own addresses in the network configuration.
//!
//! The node's address replaces the golden node's static address, in any of the usual configuration systems,
//! and the hardware address of the node's card replaces the golden card's: a configuration that waits for a
//! card in another machine brings nothing up. For the same reason the card gets the golden card's name, if
//! the configuration uses it ([`interface`]). Prefix and gateway stay unless others are given.

mod interface;
mod pairs;
mod rewrite;
mod routes;
#[cfg(test)]
mod tests;
mod unmatch;

use std::fs;
use std::path::Path;

use ka::mac::Mac;
use ka::plan::{FinishPlan, NodeAddress};

use crate::finish::error::Cause;
use crate::finish::replace::replace;
use ka_host::hardware::SlottedCard;
use ka_host::system::glob;
use pairs::Pairs;
use rewrite::Format;
use unmatch::Kind;

/// ifupdown: stanzas of `key value`.
const IFUPDOWN: Format = Format {
    stanzas: true,
    gateways: &["gateway"],
    masks: &["netmask"],
    derived: &["network", "broadcast"],
    numbered: false,
    lists: false,
};

/// systemd-networkd.
const NETWORKD: Format = Format {
    stanzas: false,
    gateways: &["Gateway"],
    masks: &[],
    derived: &["Broadcast"],
    numbered: false,
    lists: false,
};

/// NetworkManager's keyfiles: `address1=10.0.0.1/24,10.0.0.254`.
const KEYFILE: Format = Format {
    stanzas: false,
    gateways: &["gateway"],
    masks: &[],
    derived: &[],
    numbered: false,
    lists: false,
};

/// netplan.
const NETPLAN: Format = Format {
    stanzas: false,
    gateways: &["gateway4", "gateway6", "via"],
    masks: &[],
    derived: &[],
    numbered: false,
    lists: true,
};

/// Shell variables of Red Hat and SUSE.
const IFCFG: Format = Format {
    stanzas: false,
    gateways: &["GATEWAY"],
    masks: &["NETMASK", "PREFIX", "PREFIXLEN"],
    derived: &["NETWORK", "BROADCAST"],
    numbered: true,
    lists: false,
};

/// dhcpcd with a static address.
const DHCPCD: Format = Format {
    stanzas: false,
    gateways: &["static routers"],
    masks: &[],
    derived: &[],
    numbered: false,
    lists: false,
};

/// The configuration files of each system.
const PLACES: [(&str, Format); 12] = [
    ("etc/network/interfaces", IFUPDOWN),
    ("etc/network/interfaces.d/*", IFUPDOWN),
    ("etc/systemd/network/*.network", NETWORKD),
    ("etc/systemd/network/*.network.d/*.conf", NETWORKD),
    ("etc/NetworkManager/system-connections/*", KEYFILE),
    ("etc/netplan/*.yaml", NETPLAN),
    ("etc/netplan/*.yml", NETPLAN),
    // Where Ubuntu's installer leaves the source from which cloud-init creates netplan's file, once per
    // instance.
    ("etc/cloud/cloud.cfg.d/*.cfg", NETPLAN),
    ("etc/sysconfig/network-scripts/ifcfg-*", IFCFG),
    ("etc/sysconfig/network/ifcfg-*", IFCFG),
    ("etc/sysconfig/network/routes", IFCFG),
    ("etc/dhcpcd.conf", DHCPCD),
];

/// More files that identify cards by hardware address.
const CARDS: [&str; 6] = [
    "etc/NetworkManager/NetworkManager.conf",
    "etc/NetworkManager/conf.d/*.conf",
    "etc/systemd/network/*.link",
    "etc/systemd/network/*.netdev",
    "etc/systemd/network/*.link.d/*.conf",
    "etc/systemd/network/*.netdev.d/*.conf",
];

/// Files of routes and rules.
const ROUTES: [&str; 6] = [
    "etc/sysconfig/network-scripts/route-*",
    "etc/sysconfig/network-scripts/route6-*",
    "etc/sysconfig/network-scripts/rule-*",
    "etc/sysconfig/network-scripts/rule6-*",
    "etc/sysconfig/network/ifroute-*",
    "etc/sysconfig/network/ifrule-*",
];

/// How the files of a pattern select their card.
fn kind_of(pattern: &str) -> Kind {
    match pattern {
        _ if pattern.ends_with(".link") || pattern.contains(".link.d/") => Kind::Link,
        _ if pattern.contains("systemd/network/") && !pattern.contains(".netdev") => Kind::Network,
        _ if pattern.contains("NetworkManager") => Kind::Keyfile,
        _ if pattern.contains("netplan") || pattern.contains("cloud") => Kind::Netplan,
        _ if pattern.contains("ifcfg-") => Kind::Ifcfg,
        _ => Kind::Other,
    }
}

/// The node's cards.
pub(in crate::finish) struct Cards<'a> {
    /// The address of the card through which the node was reached.
    pub(in crate::finish) reached: Option<Mac>,
    /// All cards, in the order of their slots.
    pub(in crate::finish) all: &'a [SlottedCard],
}

/// Rewrites the network configuration below `root`.
pub(in crate::finish) fn write(root: &Path, plan: &FinishPlan, cards: &Cards<'_>) -> Result<(), Cause> {
    let own = plan.name.as_ref().and_then(|name| name.address.as_ref());
    let told = plan.name.as_ref().map_or(&[][..], |name| &name.cards);
    let pairs = Pairs::new(&plan.golden, told, cards.all, cards.reached);
    let given = pairs.given();
    let golden_card = plan.golden.interface.as_deref();
    let is_serving =
        |pair: &pairs::Pair| Some(pair.golden.as_str()) == golden_card || plan.golden.cards.is_empty();
    let mut named = vec![false; pairs.cards.len()];
    let (mut addressed, mut led) = (false, false);
    let gateway = own.and_then(|own| own.gateway).map(|gateway| gateway.to_string());
    let places = PLACES.iter().map(|(pattern, format)| (*pattern, Some(format)));
    let others = CARDS.iter().chain(&ROUTES).map(|pattern| (*pattern, None));
    for (pattern, format) in places.chain(others) {
        for path in glob::files(root, pattern)? {
            let bytes = fs::read(&path).map_err(|e| Cause::file("read", &path, e))?;
            let Ok(old) = String::from_utf8(bytes) else {
                warning!("{}: not UTF-8, left as it is", path.display());
                continue;
            };
            if format.is_some() {
                for (pair, named) in pairs.cards.iter().zip(&mut named) {
                    let names = |name: &str| !name.is_empty() && interface::is_named(&old, name);
                    *named |= names(&pair.golden) || is_serving(pair) && golden_card.is_some_and(names);
                }
            }
            let mut new = old.clone();
            match (plan.golden.address, own) {
                (Some(golden), Some(own)) if ROUTES.contains(&pattern) => {
                    new = routes::rewrite(&new, golden, own);
                }
                (Some(golden), Some(own)) => {
                    if let Some(format) = format {
                        new = format.rewrite(&new, golden, own);
                        addressed |= new != old || golden == own.address;
                        led |= gateway.as_ref().is_some_and(|gateway| new.contains(gateway));
                    }
                }
                _ => {}
            }
            for (interface, mac) in &pairs.lost {
                let without = unmatch::rewrite(kind_of(pattern), &new, interface, *mac);
                if without != new {
                    warning!(
                        "{}: looked for the golden node's card {interface} ({mac}), for which this node has none: \
                         pair them in the table of --hosts ({interface}=MAC)",
                        path.display()
                    );
                    new = without;
                }
            }
            new = rewrite::hardware_addresses(&new, &given);
            if new != old {
                log::info!("{}: has this node's addresses now", path.display());
                replace(&path, new.as_bytes())?;
            }
        }
    }
    for (pair, _) in pairs.cards.iter().zip(&named).filter(|(_, named)| **named) {
        let name = golden_card.filter(|_| is_serving(pair)).unwrap_or(&pair.golden);
        let has_it = cards.all.iter().any(|own| own.mac == Some(pair.own) && own.interface == *name);
        if is_serving(pair) || !has_it {
            interface::keep_name(root, name, pair.own, is_serving(pair))?;
        }
    }
    if let Some(NodeAddress { address, .. }) = own
        && !addressed
    {
        warning!("{address} is not configured anywhere: no configuration has the golden node's address");
    }
    if let Some(gateway) = gateway.filter(|_| addressed && !led) {
        warning!(
            "the gateway {gateway} is not configured anywhere: no configuration has a default route beside \
             the address"
        );
    }
    Ok(())
}

#[cfg(test)]
mod every_system {
    use super::*;
    use ka::plan::{GoldenHost, GoldenMachine, NodeName};

    #[test]
    fn every_systems_files_follow() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            (
                "etc/network/interfaces",
                "iface eth0 inet static\n    address 10.0.0.1\n    netmask 255.255.255.0\n",
            ),
            (
                "etc/systemd/network/10-wire.network",
                "[Match]\nMACAddress=52:54:00:00:00:01\n[Network]\nAddress=10.0.0.1/24\n",
            ),
            ("etc/systemd/network/10-wire.link", "[Match]\nMACAddress=52:54:00:00:00:01\n"),
            (
                "etc/NetworkManager/system-connections/wire.nmconnection",
                "[ipv4]\naddress1=10.0.0.1/24,10.0.0.254\n",
            ),
            ("etc/netplan/01.yaml", "      addresses: [10.0.0.1/24]\n"),
            ("etc/sysconfig/network-scripts/ifcfg-eth0", "IPADDR=10.0.0.1\nHWADDR=52:54:00:00:00:01\n"),
            ("etc/dhcpcd.conf", "interface enp3s0\nstatic ip_address=10.0.0.1/24\n"),
            ("usr/lib/systemd/systemd-udevd", ""),
        ];
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let address = NodeAddress { address: "10.0.0.7".parse().unwrap(), prefix: None, gateway: None };
        let plan = FinishPlan {
            name: Some(NodeName { hostname: "node7".to_owned(), address: Some(address), cards: Vec::new() }),
            golden: GoldenHost {
                address: Some("10.0.0.1".parse().unwrap()),
                mac: Some("52:54:00:00:00:01".parse().unwrap()),
                interface: Some("enp3s0".to_owned()),
                cards: Vec::new(),
            },
            machine: GoldenMachine::default(),
            first_boot: None,
            store_log_password: None,
        };
        let cards = Cards { reached: Some("52:54:00:00:00:07".parse().unwrap()), all: &[] };
        write(root.path(), &plan, &cards).unwrap();
        for (file, text) in files {
            let expected = text.replace("10.0.0.1", "10.0.0.7").replace("00:00:01", "00:00:07");
            assert_eq!(fs::read_to_string(root.path().join(file)).unwrap(), expected, "{file}");
        }
        // The site's own .link file already matches the card.
        assert!(!root.path().join("etc/systemd/network/50-ka.link").exists());
        fs::remove_file(root.path().join("etc/systemd/network/10-wire.link")).unwrap();
        write(root.path(), &plan, &cards).unwrap();
        let link = fs::read_to_string(root.path().join("etc/systemd/network/50-ka.link")).unwrap();
        assert!(link.contains("MACAddress=52:54:00:00:00:07\n") && link.contains("Name=enp3s0\n"), "{link}");
    }
}
