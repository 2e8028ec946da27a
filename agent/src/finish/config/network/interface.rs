//! Gives the node's card the golden card's name.
//!
//! udev names cards by their location, so a configuration for `ens3` brings nothing up on a node whose card
//! would be `enp0s2`. One file solves this for every configuration system: systemd.link(5) gives the node's
//! card, matched by its hardware address, the name that the configuration uses.

use std::fs;
use std::path::Path;

use ka::mac::Mac;

use crate::finish::error::Cause;
use crate::finish::replace::create;
use ka_host::system::glob;

/// The file. A site's own files that sort before it take precedence.
const LINK: &str = "etc/systemd/network/50-ka.link";

/// The programs that read such files.
const UDEV: [&str; 3] = ["usr/lib/systemd/systemd-udevd", "lib/systemd/systemd-udevd", "usr/bin/udevadm"];

/// Gives the card with the address `mac` the golden card's name in the system below `root`. `reached` is the
/// card through which the node was reached.
pub(super) fn keep_name(root: &Path, golden: &str, mac: Mac, reached: bool) -> Result<(), Cause> {
    if !can_be_given(golden) {
        warning!(
            "the network's configuration names {golden}, which the kernel may give to any card of this node"
        );
        return Ok(());
    }
    if !UDEV.iter().any(|udev| root.join(udev).exists()) {
        warning!(
            "the network's configuration names {golden}: without systemd's udev this node's card may have another name"
        );
        return Ok(());
    }
    for path in glob::files(root, "etc/systemd/network/*.link")? {
        let text = fs::read(&path).map_err(|e| Cause::file("read", &path, e))?;
        if String::from_utf8_lossy(&text).to_ascii_lowercase().contains(&mac.to_string()) {
            log::info!("{}: names this node's card", path.display());
            return Ok(());
        }
    }
    let link = if reached { LINK.to_owned() } else { LINK.replace(".link", &format!("-{golden}.link")) };
    let link = root.join(link);
    let directory = link.parent().unwrap_or(root);
    fs::create_dir_all(directory).map_err(|e| Cause::file("make", directory, e))?;
    // A VLAN or bridge on the card has its address too, but is not an Ethernet card.
    let text = format!(
        "# Written by ka: the network's configuration knows this card by the golden node's name for its own.\n\
         [Match]\nMACAddress={mac}\nType=ether\n\n[Link]\nName={golden}\n"
    );
    create(&link, text.as_bytes())?;
    log::info!("this node's card {mac} will be called {golden}, as in the network's configuration");
    Ok(())
}

/// Whether udev may assign this name: names that the kernel assigns itself are taken before udev runs.
fn can_be_given(name: &str) -> bool {
    let by_kernel = name.strip_prefix("eth").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !by_kernel && !name.is_empty() && name.len() <= 15 && name.chars().all(good)
}

/// Whether a configuration names the interface outside of comments.
pub(super) fn is_named(text: &str, interface: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let line_names = |line: &str| {
        line.match_indices(interface).any(|(at, found)| {
            let before = line.get(..at).unwrap_or_default();
            let behind = line.get(at + found.len()..).unwrap_or_default();
            !before.ends_with(word) && !behind.starts_with(word)
        })
    };
    text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])).any(line_names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_word_of_the_configuration() {
        for (text, named) in [
            ("auto ens3\n", true),
            ("    ens3:\n      dhcp4: true\n", true),
            ("Name=ens3\n", true),
            ("iface ens3.10 inet dhcp\n", true),
            ("# iface ens3\nName=ens35\nName=vens3\n", false),
            ("Name=en*\n", false),
        ] {
            assert_eq!(is_named(text, "ens3"), named, "{text}");
        }
    }

    #[test]
    fn the_nodes_card_is_known_by_its_address() {
        let root = tempfile::tempdir().unwrap();
        let mac: Mac = "52:54:00:00:00:07".parse().unwrap();
        let link = root.path().join(LINK);
        keep_name(root.path(), "ens3", mac, true).unwrap();
        assert!(!link.exists(), "there is no udev");
        let udev = root.path().join(UDEV[0]);
        fs::create_dir_all(udev.parent().unwrap()).unwrap();
        fs::write(udev, "").unwrap();
        for bad in ["eth0", "", "a b", "a\nName=b", "a-name-too-long-for-it"] {
            keep_name(root.path(), bad, mac, true).unwrap();
            assert!(!link.exists(), "{bad}");
        }
        keep_name(root.path(), "ens3", mac, true).unwrap();
        let text = fs::read_to_string(&link).unwrap();
        assert!(
            text.ends_with("[Match]\nMACAddress=52:54:00:00:00:07\nType=ether\n\n[Link]\nName=ens3\n"),
            "{text}"
        );

        fs::rename(&link, link.with_file_name("10-site.link")).unwrap();
        keep_name(root.path(), "ens3", mac, true).unwrap();
        assert!(!link.exists(), "a site's own file names it");
    }
}
