//! The node's own addresses in the network's configuration.
//!
//! Where the golden node's static address stands, in whichever of the usual systems, the node's takes its place,
//! and the golden card's hardware address becomes that of the node's card: a configuration that waits for a card
//! that is in another machine brings nothing up. For the same reason the card has the golden card's name, if the
//! configuration names that ([`interface`]). Prefix and gateway stay unless others are given.

mod interface;
mod rewrite;

use std::fs;
use std::path::Path;

use ka::mac::Mac;
use ka::plan::{FinishPlan, NodeAddress};

use super::error::Cause;
use super::glob;
use super::replace::replace;
use rewrite::Format;

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

/// Red Hat's and SUSE's shell variables.
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

/// Where each system's configuration is.
const PLACES: [(&str, Format); 12] = [
    ("etc/network/interfaces", IFUPDOWN),
    ("etc/network/interfaces.d/*", IFUPDOWN),
    ("etc/systemd/network/*.network", NETWORKD),
    ("etc/systemd/network/*.network.d/*.conf", NETWORKD),
    ("etc/NetworkManager/system-connections/*", KEYFILE),
    ("etc/netplan/*.yaml", NETPLAN),
    ("etc/netplan/*.yml", NETPLAN),
    // Ubuntu's installer leaves there what cloud-init makes netplan's file of, once for each instance.
    ("etc/cloud/cloud.cfg.d/*.cfg", NETPLAN),
    ("etc/sysconfig/network-scripts/ifcfg-*", IFCFG),
    ("etc/sysconfig/network/ifcfg-*", IFCFG),
    ("etc/sysconfig/network/routes", IFCFG),
    ("etc/dhcpcd.conf", DHCPCD),
];

/// More files that name cards by their hardware addresses.
const CARDS: [&str; 2] = ["etc/systemd/network/*.link", "etc/systemd/network/*.netdev"];

/// Rewrites the network's configuration below `root`; `mac` is the card through which the node was reached.
pub(super) fn write(root: &Path, plan: &FinishPlan, mac: Option<Mac>) -> Result<(), Cause> {
    let own = plan.name.as_ref().and_then(|name| name.address.as_ref());
    let (mut addressed, mut led, mut named) = (false, false, false);
    let gateway = own.and_then(|own| own.gateway).map(|gateway| gateway.to_string());
    let places = PLACES.iter().map(|(pattern, format)| (*pattern, Some(format)));
    for (pattern, format) in places.chain(CARDS.map(|pattern| (pattern, None))) {
        for path in glob::files(root, pattern)? {
            let bytes = fs::read(&path).map_err(|e| Cause::file("read", &path, e))?;
            let Ok(old) = String::from_utf8(bytes) else {
                log::warn!("{}: not UTF-8, left as it is", path.display());
                continue;
            };
            let golden_card = plan.golden.interface.as_deref();
            named |= format.is_some() && golden_card.is_some_and(|card| interface::is_named(&old, card));
            let mut new = old.clone();
            if let (Some(golden), Some(own), Some(format)) = (plan.golden.address, own, format) {
                new = format.rewrite(&new, golden, own);
                addressed |= new != old || golden == own.address;
                led |= gateway.as_ref().is_some_and(|gateway| new.contains(gateway));
            }
            if let (Some(golden), Some(mac)) = (plan.golden.mac, mac) {
                new = rewrite::hardware_address(&new, golden, mac);
            }
            if new != old {
                log::info!("{}: has this node's addresses now", path.display());
                replace(&path, new.as_bytes())?;
            }
        }
    }
    if let (Some(golden), Some(mac), true) = (&plan.golden.interface, mac, named) {
        interface::keep_name(root, golden, mac)?;
    }
    if let Some(NodeAddress { address, .. }) = own
        && !addressed
    {
        log::warn!("{address} is written down nowhere: no configuration has the golden node's address");
    }
    if let Some(gateway) = gateway.filter(|_| addressed && !led) {
        log::warn!(
            "the gateway {gateway} is written down nowhere: no configuration has a default route beside the address"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
        };
        write(root.path(), &plan, Some("52:54:00:00:00:07".parse().unwrap())).unwrap();
        for (file, text) in files {
            let expected = text.replace("10.0.0.1", "10.0.0.7").replace("00:00:01", "00:00:07");
            assert_eq!(fs::read_to_string(root.path().join(file)).unwrap(), expected, "{file}");
        }
        // The site's own .link file has the card already.
        assert!(!root.path().join("etc/systemd/network/50-ka.link").exists());
        fs::remove_file(root.path().join("etc/systemd/network/10-wire.link")).unwrap();
        write(root.path(), &plan, Some("52:54:00:00:00:07".parse().unwrap())).unwrap();
        let link = fs::read_to_string(root.path().join("etc/systemd/network/50-ka.link")).unwrap();
        assert!(link.contains("MACAddress=52:54:00:00:00:07\n") && link.contains("Name=enp3s0\n"), "{link}");
    }
}
