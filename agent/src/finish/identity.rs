//! What belongs to one machine only, and must not be on two.
//!
//! The list is data, so that it grows without new code. SSH host keys are not in it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::Cause;
use super::glob;

/// A trace of the golden node: a directory and the names in it, where a `*` stands for any text.
struct Trace {
    directory: &'static str,
    names: &'static [&'static str],
}

const fn trace(directory: &'static str, names: &'static [&'static str]) -> Trace {
    Trace { directory, names }
}

/// Files that the system makes anew when they are missing.
const REMOVED: &[Trace] = &[
    // systemd-tmpfiles links it to /etc/machine-id, dbus-uuidgen makes it elsewhere.
    trace("var/lib/dbus", &["machine-id"]),
    // Names of network cards by the golden node's MAC addresses. The generator of such rules stays.
    trace("etc/udev/rules.d", &["*persistent-net.rules", "*net_persistent_names.rules"]),
    // Leases and DUIDs of DHCP clients: dhclient (Debian, Red Hat), dhcpcd, NetworkManager, wicked. A DHCP
    // server's own leases are data, and stay.
    trace("var/lib/dhcp", &["dhclient*.leases", "dhclient*.lease"]),
    trace("var/lib/dhclient", &["dhclient*.leases", "dhclient*.lease"]),
    trace("var/lib/dhcpcd", &["*.lease", "*.lease6", "duid", "secret", "rdm_monotonic"]),
    trace("var/lib/dhcpcd5", &["*.lease", "*.lease6", "duid", "secret", "rdm_monotonic"]),
    trace("etc", &["dhcpcd.duid", "dhcpcd.secret"]),
    trace("var/lib/NetworkManager", &["*.lease", "*.leases", "secret_key"]),
    trace("var/lib/systemd/network", &["*lease*"]),
    trace("var/lib/wicked", &["duid.xml", "iaid.xml", "lease-*.xml"]),
    // Equal seeds would give the clones equal random numbers.
    trace("var/lib/systemd", &["random-seed"]),
    trace("var/lib/urandom", &["random-seed"]),
    trace("var/lib", &["random-seed"]),
];

/// Takes the golden node's identity out of the tree below `root`.
pub(super) fn remove(root: &Path) -> Result<(), Cause> {
    empty(&root.join("etc/machine-id"))?;
    for trace in REMOVED {
        for path in matches(root, trace)? {
            fs::remove_file(&path).map_err(|e| Cause::file("remove", &path, e))?;
            log::info!("removed {}, which belongs to the golden node", path.display());
        }
    }
    Ok(())
}

/// systemd makes an ID for an empty file at boot; without the file, it would take the boot for the
/// first one and preset all units.
fn empty(path: &Path) -> Result<(), Cause> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() > 0 => {
            File::options()
                .write(true)
                .truncate(true)
                .open(path)
                .map_err(|e| Cause::file("empty", path, e))?;
            log::info!("emptied {}", path.display());
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Cause::file("look at", path, e)),
    }
}

/// The regular files of a trace. A symbolic link is configuration, and stays.
fn matches(root: &Path, trace: &Trace) -> Result<Vec<PathBuf>, Cause> {
    let mut found = Vec::new();
    for name in trace.names {
        let entries = glob::entries(root, &format!("{}/{name}", trace.directory))?;
        found.extend(entries.into_iter().filter(|p| fs::symlink_metadata(p).is_ok_and(|m| m.is_file())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_golden_node_leaves_no_trace() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        };
        let gone = [
            "var/lib/dbus/machine-id",
            "etc/udev/rules.d/70-persistent-net.rules",
            "var/lib/dhcp/dhclient.eth0.leases",
            "var/lib/dhcp/dhclient6.leases",
            "var/lib/dhcpcd/eth0.lease",
            "var/lib/dhcpcd/duid",
            "var/lib/NetworkManager/internal-1-eth0.lease",
            "var/lib/NetworkManager/secret_key",
            "var/lib/systemd/random-seed",
        ];
        let kept = [
            "etc/machine-info",
            "etc/udev/rules.d/75-persistent-net-generator.rules",
            "var/lib/dhcp/dhcpd.leases",
            "var/lib/NetworkManager/timestamps",
            "etc/ssh/ssh_host_ed25519_key",
            // A directory with the name of a trace is somebody else's.
            "var/lib/random-seed/data",
        ];
        gone.iter().chain(&kept).for_each(|name| put(name));
        put("etc/machine-id");

        remove(root.path()).unwrap();

        assert_eq!(fs::read(root.path().join("etc/machine-id")).unwrap(), b"");
        for name in gone {
            assert!(!root.path().join(name).exists(), "{name}");
        }
        for name in kept {
            assert!(root.path().join(name).exists(), "{name}");
        }
    }

    #[test]
    fn a_linked_machine_id_stays() {
        let root = tempfile::tempdir().unwrap();
        let dbus = root.path().join("var/lib/dbus");
        fs::create_dir_all(&dbus).unwrap();
        std::os::unix::fs::symlink("/etc/machine-id", dbus.join("machine-id")).unwrap();
        remove(root.path()).unwrap();
        assert!(fs::symlink_metadata(dbus.join("machine-id")).is_ok());
        assert!(!root.path().join("etc/machine-id").exists(), "none is made where there was none");
    }
}
