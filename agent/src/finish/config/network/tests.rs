//! Complete files as installers and tools write them, with three cards: the one through which the node was
//! reached, one with a counterpart on the node, and one without.

use std::fs;

use ka::mac::Mac;
use ka::plan::{FinishPlan, GoldenCard, GoldenHost, GoldenMachine, NodeAddress, NodeName};
use ka_host::hardware::SlottedCard;

use super::{Cards, write};

fn mac(text: &str) -> Option<Mac> {
    Some(text.parse().unwrap())
}

fn plan() -> FinishPlan {
    let card = |interface: &str, address: &str, driver: Option<&str>| GoldenCard {
        interface: interface.to_owned(),
        mac: mac(address),
        driver: driver.map(str::to_owned),
        pinned: driver.is_none(),
    };
    let address = NodeAddress { address: "10.0.0.7".parse().unwrap(), prefix: None, gateway: None };
    FinishPlan {
        name: Some(NodeName { hostname: "node7".to_owned(), address: Some(address), cards: Vec::new() }),
        golden: GoldenHost {
            address: Some("10.0.0.1".parse().unwrap()),
            mac: mac("52:54:00:aa:00:01"),
            interface: Some("enp3s0".to_owned()),
            cards: vec![
                card("enp3s0", "52:54:00:aa:00:01", Some("igb")),
                card("enp4s0", "52:54:00:aa:00:02", Some("igb")),
                card("enp9s0", "52:54:00:aa:00:03", Some("mlx5_core")),
                card("br0", "02:00:00:aa:00:b0", None),
            ],
        },
        machine: GoldenMachine::default(),
        first_boot: None,
        store_log_password: None,
    }
}

/// The text of a file on the node.
fn rewritten(file: &str, text: &str) -> String {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    let own = |interface: &str, address: &str| SlottedCard {
        interface: interface.to_owned(),
        mac: mac(address),
        driver: "igb".to_owned(),
    };
    let all = [own("eno1", "52:54:00:bb:00:01"), own("eno2", "52:54:00:bb:00:02")];
    write(root.path(), &plan(), &Cards { reached: all[0].mac, all: &all }).unwrap();
    fs::read_to_string(&path).unwrap()
}

/// Each text with the expected result, line by line; lines that stay the same appear once.
#[test]
fn files_as_their_tools_write_them() {
    for (file, text, changed) in [
        (
            // Ubuntu's installer.
            "etc/netplan/00-installer-config.yaml",
            "# This is the network config written by 'subiquity'\nnetwork:\n  ethernets:\n    enp3s0:\n      addresses:\n      - 10.0.0.1/24\n      nameservers:\n        addresses:\n        - 10.0.0.53\n        search: []\n      routes:\n      - to: default\n        via: 10.0.0.254\n      - to: 10.8.0.0/16\n        via: 10.0.0.253\n        metric: 100\n  version: 2\n",
            &[("- 10.0.0.1/24", "- 10.0.0.7/24")][..],
        ),
        (
            // cloud-init.
            "etc/netplan/50-cloud-init.yaml",
            "network:\n    version: 2\n    ethernets:\n        enp3s0:\n            match:\n                macaddress: '52:54:00:aa:00:01'\n            addresses: [\"10.0.0.1/24\"]\n            set-name: \"enp3s0\"\n        enp4s0:\n            dhcp4: true\n            match:\n                macaddress: 52:54:00:AA:00:02\n            set-name: enp4s0\n        enp9s0:\n            optional: true\n            set-name: enp9s0\n            match:\n                macaddress: \"52:54:00:aa:00:03\"\n            mtu: 9000\n    bridges:\n        br0:\n            macaddress: 02:00:00:aa:00:b0\n            interfaces: [enp4s0]\n",
            &[
                ("'52:54:00:aa:00:01'", "'52:54:00:bb:00:01'"),
                ("10.0.0.1/24", "10.0.0.7/24"),
                ("52:54:00:AA:00:02", "52:54:00:bb:00:02"),
                (
                    "            set-name: enp9s0\n            match:\n                macaddress: \"52:54:00:aa:00:03\"\n",
                    "            match:\n                name: \"enp9s0\"\n",
                ),
                ("02:00:00:aa:00:b0", "PINNED"),
            ],
        ),
        (
            // Anaconda and nmcli, RHEL 9.
            "etc/NetworkManager/system-connections/enp3s0.nmconnection",
            "[connection]\nid=enp3s0\nuuid=3d8f7c5e-0000-4000-8000-000000000001\ntype=ethernet\nautoconnect-priority=-999\ninterface-name=enp3s0\ntimestamp=1700000000\n\n[ethernet]\nmac-address=52:54:00:AA:00:01\n\n[ipv4]\naddress1=10.0.0.1/24,10.0.0.254\ndns=10.0.0.53;10.0.0.54;\nmethod=manual\nroute1=10.8.0.0/16,10.0.0.253,100\n\n[ipv6]\naddr-gen-mode=eui64\nmethod=auto\n\n[proxy]\n",
            &[("52:54:00:AA:00:01", "52:54:00:bb:00:01"), ("10.0.0.1/24,", "10.0.0.7/24,")],
        ),
        (
            // NetworkManager on Debian, older: the section has its D-Bus name.
            "etc/NetworkManager/system-connections/Wired connection 3",
            "[connection]\nid=Wired connection 3\ntype=802-3-ethernet\n\n[802-3-ethernet]\nduplex=full\nmac-address=52:54:00:AA:00:03\n\n[ipv4]\nmethod=auto\n",
            &[
                ("[connection]\n", "[connection]\ninterface-name=enp9s0\n"),
                ("mac-address=52:54:00:AA:00:03\n", ""),
            ],
        ),
        (
            "etc/NetworkManager/conf.d/10-site.conf",
            "[main]\nno-auto-default=52:54:00:aa:00:02,\n[device-lan]\nmatch-device=mac:52:54:00:aa:00:01\n",
            &[("00:aa:00:02", "00:bb:00:02"), ("00:aa:00:01", "00:bb:00:01")],
        ),
        (
            // Anaconda, RHEL 7 and 8.
            "etc/sysconfig/network-scripts/ifcfg-enp3s0",
            "TYPE=\"Ethernet\"\nPROXY_METHOD=\"none\"\nBOOTPROTO=\"none\"\nDEFROUTE=\"yes\"\nIPV6INIT=\"yes\"\nNAME=\"enp3s0\"\nUUID=\"3d8f7c5e-0000-4000-8000-000000000001\"\nHWADDR=\"52:54:00:AA:00:01\"\nDEVICE=\"enp3s0\"\nONBOOT=\"yes\"\nIPADDR=\"10.0.0.1\"\nPREFIX=\"24\"\nGATEWAY=\"10.0.0.254\"\nDNS1=\"10.0.0.53\"\n",
            &[("52:54:00:AA:00:01", "52:54:00:bb:00:01"), ("\"10.0.0.1\"", "\"10.0.0.7\"")],
        ),
        (
            // A port of a bond, for which this node has no card.
            "etc/sysconfig/network-scripts/ifcfg-enp9s0",
            "DEVICE=enp9s0\nHWADDR=52:54:00:aa:00:03\nMASTER=bond0\nSLAVE=yes\nONBOOT=yes\nNM_CONTROLLED=no\n",
            &[("HWADDR=52:54:00:aa:00:03\n", "")],
        ),
        (
            // YaST.
            "etc/sysconfig/network/ifcfg-br0",
            "BOOTPROTO='static'\nBRIDGE='yes'\nBRIDGE_PORTS='enp3s0'\nBRIDGE_STP='off'\nIPADDR='10.0.0.1/24'\nLLADDR='02:00:00:aa:00:b0'\nSTARTMODE='auto'\n",
            &[("10.0.0.1/24", "10.0.0.7/24"), ("02:00:00:aa:00:b0", "PINNED")],
        ),
        (
            // Debian's installer, and a bridge of ifupdown.
            "etc/network/interfaces",
            "source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n\nauto br0\niface br0 inet static\n\taddress 10.0.0.1/24\n\tgateway 10.0.0.254\n\tbridge_ports enp3s0\n\tbridge_hw 02:00:00:aa:00:b0\n\tdns-nameservers 10.0.0.53\n",
            &[("10.0.0.1/24", "10.0.0.7/24"), ("02:00:00:aa:00:b0", "PINNED")],
        ),
    ] {
        let mut wanted = text.to_owned();
        for (from, to) in changed {
            assert_eq!(wanted.matches(from).count(), 1, "{file}: {from}");
            wanted = wanted.replace(from, to);
        }
        let found = rewritten(file, text);
        // A pinned address becomes unique to this node, whatever it is.
        let (before, behind) = wanted.split_once("PINNED").unwrap_or((&wanted, ""));
        assert!(
            found.starts_with(before) && found.ends_with(behind),
            "{file}:\n{found}\nexpected:\n{wanted}"
        );
        let pinned = found.len() - before.len() - behind.len();
        assert_eq!(pinned, if wanted.contains("PINNED") { 17 } else { 0 }, "{file}:\n{found}");
        assert!(!found.to_ascii_lowercase().contains("00:aa:00:"), "{file}:\n{found}");
    }
}
