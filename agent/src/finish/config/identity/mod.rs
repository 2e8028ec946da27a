//! Removes what belongs to one machine only and must not exist twice.
//!
//! What is only removed is a list, which can grow without new code, and which a site can extend. What a
//! system cannot do without is recreated.

mod host_keys;
mod known;
mod list;
mod other;
mod rule;

use std::fs;
use std::io;
use std::path::Path;

use crate::finish::config::bls;
use crate::finish::error::Cause;
use crate::finish::replace::{create, replace};
use ka_host::system::glob;
use list::List;

/// Where a kernel's files are kept under the machine's ID.
const BOOT_DIRECTORIES: [&str; 3] = ["boot", "boot/efi", "efi"];

/// The name under which new kernels are installed, if it is not the machine's ID.
const ENTRY_TOKEN: &str = "etc/kernel/entry-token";

/// Where kernel-install(8) may find the machine's ID before it reads `/etc/machine-id`.
const KERNEL_INSTALL: [(&str, &str); 2] =
    [("etc/kernel/install.conf", "MACHINE_ID="), ("etc/machine-info", "KERNEL_INSTALL_MACHINE_ID=")];

/// Removes the golden node's identity from the tree below `root`, which is the process's root, and recreates
/// what the node needs. `hostname` is the node's.
pub(in crate::finish) fn renew(root: &Path, hostname: &str) -> Result<(), Cause> {
    let list = List::read(root)?;
    let machine_id = machine_id(root)?;
    // GRUB on Red Hat systems names entries after the machine's ID, and its tools only find those with the
    // machine's own.
    let renamed = match &machine_id {
        Some(id) if !list.keeps(root, &root.join(MACHINE_ID))? && bls::is_named_by(root, id)? => Some(id),
        _ => None,
    };
    forget_kernel_installs_id(root, renamed)?;
    if let Some(id) = machine_id.as_ref().filter(|id| renamed != Some(id)) {
        keep_entry_token(root, id)?;
    }
    list.apply(root, machine_id.as_deref())?;
    if let Some(old) = renamed {
        let new = new_machine_id()?;
        replace(&root.join(MACHINE_ID), format!("{new}\n").as_bytes())?;
        bls::rename(root, old, &new)?;
    }
    other::report(root, &list)?;
    host_keys::renew(root, &list, hostname)
}

/// The file with the machine's ID.
const MACHINE_ID: &str = "etc/machine-id";

/// A random ID, generated as systemd does: the digits of a random UUID.
fn new_machine_id() -> Result<String, Cause> {
    let path = Path::new("/proc/sys/kernel/random/uuid");
    let text = fs::read_to_string(path).map_err(|e| Cause::file("read", path, e))?;
    Ok(text.chars().filter(char::is_ascii_hexdigit).collect())
}

/// The machine's ID, if the system below `root` has one.
pub(in crate::finish) fn machine_id(root: &Path) -> Result<Option<String>, Cause> {
    let path = root.join(MACHINE_ID);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let id = text.trim();
            Ok(is_id(id).then(|| id.to_owned()))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Cause::file("read", &path, e)),
    }
}

/// 32 hexadecimal digits (machine-id(5)).
fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// With the golden node's ID in kernel-install's configuration, each new entry would be named after the
/// golden node.
fn forget_kernel_installs_id(root: &Path, renamed: Option<&String>) -> Result<(), Cause> {
    for (file, key) in KERNEL_INSTALL {
        let path = root.join(file);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Cause::file("read", &path, e)),
        };
        let Ok(text) = String::from_utf8(bytes) else {
            warning!("{}: not UTF-8, left as it is", path.display());
            continue;
        };
        let mut rest = String::new();
        for line in text.split_inclusive('\n') {
            let id = line.trim().strip_prefix(key).map(|value| value.trim_matches(['"', '\'']));
            match id.filter(|id| is_id(id)) {
                Some(id) if renamed.is_some_and(|renamed| renamed == id) => {}
                Some(id) => keep_entry_token(root, id)?,
                None => rest.push_str(line),
            }
        }
        if rest != text {
            log::info!("{}: without the golden node's ID now", path.display());
            replace(&path, rest.as_bytes())?;
        }
    }
    Ok(())
}

/// Boot entries and kernels may be kept under the golden node's ID. They stay under that name, as an entry
/// token (kernel-install(8)): otherwise the clone's next kernel would be stored under another name next to
/// them.
fn keep_entry_token(root: &Path, id: &str) -> Result<(), Cause> {
    let token = root.join(ENTRY_TOKEN);
    let mut used = false;
    for top in BOOT_DIRECTORIES {
        used |= root.join(top).join(id).is_dir();
        for entries in ["loader/entries/*.conf", "EFI/Linux/*.efi"] {
            let pattern = format!("{top}/{}", entries.replace('*', &format!("{id}-*")));
            used |= !glob::files(root, &pattern)?.is_empty();
        }
    }
    if !used || token.exists() {
        return Ok(());
    }
    let directory = root.join("etc/kernel");
    fs::create_dir_all(&directory).map_err(|e| Cause::file("make", &directory, e))?;
    create(&token, format!("{id}\n").as_bytes())
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
            "var/lib/systemd/credential.secret",
            "boot/efi/loader/random-seed",
            "etc/hostid",
            "var/log/journal/0123456789abcdef0123456789abcdef/system.journal",
            "srv/licence",
        ];
        let kept = [
            "etc/machine-info",
            "etc/udev/rules.d/75-persistent-net-generator.rules",
            "var/lib/dhcp/dhcpd.leases",
            "var/lib/NetworkManager/timestamps",
            "var/log/journal/remote/x.journal",
            "var/log/syslog",
            "var/lib/chrony/drift",
            // A directory with the name of such a file belongs to something else.
            "var/lib/random-seed/data",
        ];
        gone.iter().chain(&kept).for_each(|name| put(name));
        let id = "0123456789abcdef0123456789abcdef";
        put("var/log/wtmp");
        put(&format!("boot/efi/{id}/6.1/linux"));
        put("etc/ka/identity.d/site");
        fs::write(root.path().join("etc/machine-id"), format!("{id}\n")).unwrap();
        let site = "# ours\nremove /srv/licence\nkeep /var/lib/chrony\n";
        fs::write(root.path().join("etc/ka/identity.d/site"), site).unwrap();

        renew(root.path(), "node").unwrap();

        assert_eq!(fs::read(root.path().join("etc/machine-id")).unwrap(), b"");
        assert_eq!(fs::read(root.path().join("var/log/wtmp")).unwrap(), b"");
        assert_eq!(fs::read_to_string(root.path().join(ENTRY_TOKEN)).unwrap(), format!("{id}\n"));
        for name in gone {
            assert!(!root.path().join(name).exists(), "{name}");
        }
        for name in kept {
            assert!(root.path().join(name).exists(), "{name}");
        }
    }

    #[test]
    fn other_softwares_identity_stays_until_a_site_enables_its_list() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let has = |name: &str| root.path().join(name).exists();
        let files = [
            "etc/krb5.keytab",
            "etc/salt/minion_id",
            "var/lib/cloud/instances/i-1/x",
            "var/lib/snmp/snmpd.conf",
        ];
        files.iter().for_each(|name| put(name, "x"));
        fs::create_dir_all(root.path().join("var/lib/puppet/ssl")).unwrap();
        let _ = crate::notes::take();
        renew(root.path(), "node").unwrap();
        assert!(files.iter().all(|name| has(name)));

        put("etc/ka/identity.d/site", "enable salt\nenable /etc/krb5.keytab\nkeep /var/lib/snmp\n");
        renew(root.path(), "node").unwrap();
        assert_eq!(files.map(has), [false, false, true, true]);
        put("etc/ka/identity.d/site", "enable all\nkeep /var/lib/snmp\n");
        renew(root.path(), "node").unwrap();
        assert_eq!(files.map(has), [false, false, false, true]);
        assert!(has("var/lib/cloud"));
        put("etc/ka/identity.d/site", "enable\n");
        assert!(renew(root.path(), "node").unwrap_err().to_string().contains("site:1: expected"));
    }

    #[test]
    fn kernel_install_has_the_old_id_as_a_name_only() {
        let id = "0123456789abcdef0123456789abcdef";
        for entry in [format!("efi/loader/entries/{id}-6.conf"), format!("boot/EFI/Linux/{id}-6.efi")] {
            let root = tempfile::tempdir().unwrap();
            let put = |name: &str, text: &str| {
                let path = root.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            };
            let read = |name: &str| fs::read_to_string(root.path().join(name)).unwrap();
            put(&entry, "x");
            put("etc/machine-id", "ffffffffffffffffffffffffffffffff\n");
            put("etc/machine-info", &format!("CHASSIS=server\nKERNEL_INSTALL_MACHINE_ID={id}\n"));
            put("etc/kernel/install.conf", &format!("MACHINE_ID=\"{id}\"\nlayout=bls\n# MACHINE_ID=\n"));
            renew(root.path(), "node").unwrap();
            assert_eq!(read("etc/machine-info"), "CHASSIS=server\n");
            assert_eq!(read("etc/kernel/install.conf"), "layout=bls\n# MACHINE_ID=\n");
            assert_eq!(read(ENTRY_TOKEN), format!("{id}\n"), "{entry}");
        }
    }

    #[test]
    fn a_linked_machine_id_stays() {
        let root = tempfile::tempdir().unwrap();
        let dbus = root.path().join("var/lib/dbus");
        fs::create_dir_all(&dbus).unwrap();
        std::os::unix::fs::symlink("/etc/machine-id", dbus.join("machine-id")).unwrap();
        renew(root.path(), "node").unwrap();
        assert!(fs::symlink_metadata(dbus.join("machine-id")).is_ok());
        assert!(!root.path().join("etc/machine-id").exists(), "none is made where there was none");

        // On a persistent partition of an image-based system; D-Bus's is a link to it.
        for file in ["etc/machine-id", "data/id", "var/lib/dbus/machine-id"] {
            fs::create_dir_all(root.path().join(file).parent().unwrap()).unwrap();
        }
        fs::remove_file(dbus.join("machine-id")).unwrap();
        std::os::unix::fs::symlink("../../../etc/machine-id", dbus.join("machine-id")).unwrap();
        std::os::unix::fs::symlink("../data/id", root.path().join("etc/machine-id")).unwrap();
        fs::write(root.path().join("data/id"), "0123456789abcdef0123456789abcdef\n").unwrap();
        renew(root.path(), "node").unwrap();
        assert_eq!(fs::read(root.path().join("data/id")).unwrap(), b"");
        assert_eq!(fs::read(dbus.join("machine-id")).unwrap(), b"");
    }
}
