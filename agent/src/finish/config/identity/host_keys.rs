//! SSH host keys and iSCSI names: removed, and recreated on the node with the same types and paths.
//!
//! Not every system generates missing host keys at its first boot (Debian does not), and no one can log in to
//! a clone without any.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::list::List;
use crate::finish::error::Cause;
use crate::finish::replace::{copy_xattrs, label_like_directory};
use crate::finish::tool;
use ka_host::system::glob;

/// The default paths of OpenSSH's and Dropbear's keys.
const OPENSSH: &str = "etc/ssh/ssh_host_*_key";
const DROPBEAR: [&str; 3] = [
    "etc/dropbear/dropbear_*_host_key",
    "etc/dropbear/initramfs/dropbear_*_host_key",
    "etc/dropbear-initramfs/dropbear_*_host_key",
];

/// Key types that a file's name may reveal.
const KINDS: [&str; 4] = ["dsa", "ecdsa", "ed25519", "rsa"];

/// Obsolete types that can no longer be generated, though old systems have such files.
const GIVEN_UP: [&str; 2] = ["dsa", "dss"];

/// Generates new keys in place of the golden node's, below `root`, which is the process's root. A new key's
/// comment is `root@hostname`.
pub(super) fn renew(root: &Path, list: &List, hostname: &str) -> Result<(), Cause> {
    let mut keys = Vec::new();
    for path in openssh_keys(root)? {
        keys.push((path, None, "ssh-keygen"));
    }
    for pattern in DROPBEAR {
        for path in glob::files(root, pattern)? {
            let kind = name_between(&path, "dropbear_", "_host_key");
            keys.push((path, kind, "dropbearkey"));
        }
    }
    for (path, kind, program) in keys {
        if list.keeps(root, &path)? {
            log::info!("{} stays, as the site's list says", path.display());
            continue;
        }
        let kind = match kind {
            None if program == "ssh-keygen" => openssh_kind(&path)?,
            kind => kind,
        };
        let old = take_away(&path)?;
        match (kind, tool::find(&[program])) {
            (Some(kind), Some(program)) if !GIVEN_UP.contains(&kind.as_str()) => {
                make(program, &kind, &path, hostname)?;
                old.restore(&path)?;
                log::info!("{} is this node's own", path.display());
            }
            (_, None) => warning!("{}: removed, and the copied system has no {program}", path.display()),
            _ => warning!("{}: removed; no new key of that kind is created", path.display()),
        }
    }
    renew_initiator(root, list)
}

/// The keys at the default paths, and those named in the configuration.
fn openssh_keys(root: &Path) -> Result<Vec<PathBuf>, Cause> {
    let mut keys = glob::files(root, OPENSSH)?;
    for pattern in ["etc/ssh/sshd_config", "etc/ssh/sshd_config.d/*.conf"] {
        for path in glob::files(root, pattern)? {
            let text = fs::read(&path).map_err(|e| Cause::file("read", &path, e))?;
            for line in String::from_utf8_lossy(&text).lines() {
                // sshd_config(5): keywords are case-insensitive and may be followed by `=`.
                let mut words = line.split(|c: char| c.is_whitespace() || c == '=').filter(|w| !w.is_empty());
                if words.next().is_some_and(|word| word.eq_ignore_ascii_case("HostKey"))
                    && let Some(named) = words.next()
                {
                    let named = root.join(named.trim_matches('"').trim_start_matches('/'));
                    keys.extend(named.is_file().then_some(named));
                }
            }
        }
    }
    keys.sort();
    keys.dedup();
    Ok(keys)
}

/// The type as in `ssh-keygen -t`: from the public key, from the file's name, or else from the key itself. A
/// key of an unknown type could not be recreated, and without it no one might be able to log in.
fn openssh_kind(path: &Path) -> Result<Option<String>, Cause> {
    let public = with_suffix(path, ".pub");
    let public = match fs::read(&public) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(Cause::file("read", &public, e)),
    };
    let by_name = || name_between(path, "ssh_host_", "_key").filter(|kind| KINDS.contains(&kind.as_str()));
    if let Some(kind) = kind_of(&public).or_else(by_name) {
        return Ok(Some(kind));
    }
    let Some(program) = tool::find(&["ssh-keygen"]) else { return Ok(None) };
    let public = tool::output_of(program, &["-y", "-P", "", "-f", &path.to_string_lossy()])?;
    kind_of(&public).map(Some).ok_or_else(|| Cause::List {
        file: path.to_owned(),
        line: 1,
        wrong:
            "a host key of a kind that is not known: no new one can be made (a `keep` in /etc/ka/identity.d \
                leaves it as it is)"
                .to_owned(),
    })
}

/// The type of a public key, from its first word.
fn kind_of(public: &str) -> Option<String> {
    let kind = match public.split_whitespace().next()? {
        "ssh-ed25519" => "ed25519",
        "ssh-rsa" => "rsa",
        "ssh-dss" => "dsa",
        word if word.starts_with("ecdsa-") => "ecdsa",
        _ => return None,
    };
    Some(kind.to_owned())
}

fn name_between(path: &Path, before: &str, after: &str) -> Option<String> {
    Some(path.file_name()?.to_str()?.strip_prefix(before)?.strip_suffix(after)?.to_owned())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Deleted key files, kept open for their mode, owner and attributes.
struct Old(Vec<(&'static str, File)>);

/// Removes a key with its public half and its certificate, which match no other key.
fn take_away(path: &Path) -> Result<Old, Cause> {
    let mut old = Vec::new();
    for suffix in ["", ".pub", "-cert.pub"] {
        let file = with_suffix(path, suffix);
        match File::open(&file) {
            Ok(opened) => {
                fs::remove_file(&file).map_err(|e| Cause::file("remove", &file, e))?;
                old.push((suffix, opened));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Cause::file("open", &file, e)),
        }
    }
    Ok(Old(old))
}

impl Old {
    fn restore(&self, path: &Path) -> Result<(), Cause> {
        for suffix in ["", ".pub"] {
            let file = with_suffix(path, suffix);
            if !file.exists() {
                continue;
            }
            match self.0.iter().find(|(own, _)| *own == suffix) {
                Some((_, old)) => {
                    give_back(old, &file).map_err(|e| Cause::file("give its owner to", &file, e))?
                }
                None => label_like_directory(&file)?,
            }
        }
        Ok(())
    }
}

/// The owner first: a change of owner clears other bits.
fn give_back(old: &File, file: &Path) -> io::Result<()> {
    let new = File::open(file)?;
    let metadata = old.metadata()?;
    fchown(&new, Some(metadata.uid()), Some(metadata.gid()))?;
    new.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    copy_xattrs(old, &new)
}

fn make(program: &str, kind: &str, path: &Path, hostname: &str) -> Result<(), Cause> {
    let file = path.to_string_lossy();
    if program == "dropbearkey" {
        return tool::run(program, &["-t", kind, "-f", &file]);
    }
    let comment = format!("root@{hostname}");
    tool::run(program, &["-q", "-t", kind, "-N", "", "-C", &comment, "-f", &file])
}

/// Replaces the node's iSCSI initiator name, which must be unique.
fn renew_initiator(root: &Path, list: &List) -> Result<(), Cause> {
    let path = root.join("etc/iscsi/initiatorname.iscsi");
    let old = match fs::read_to_string(&path) {
        Ok(old) => old,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Cause::file("read", &path, e)),
    };
    if !old.contains("InitiatorName=") || list.keeps(root, &path)? {
        return Ok(());
    }
    let Some(program) = tool::find(&["iscsi-iname"]) else {
        warning!("{}: still the golden node's: the copied system has no iscsi-iname", path.display());
        return Ok(());
    };
    let name = tool::output_of(program, &[])?;
    let line = |line: &str| match line.strip_prefix("InitiatorName=") {
        Some(_) => format!("InitiatorName={}\n", name.trim()),
        None => line.to_owned(),
    };
    let new: String = old.split_inclusive('\n').map(line).collect();
    crate::finish::replace::replace(&path, new.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ssh-keygen of this machine: it also works outside of a chroot.
    #[test]
    fn keys_are_made_anew_of_the_same_kinds() {
        let root = tempfile::tempdir().unwrap();
        let ssh = root.path().join("etc/ssh");
        fs::create_dir_all(ssh.join("keys")).unwrap();
        let named = ssh.join("keys/host");
        for (path, kind) in [
            (ssh.join("ssh_host_ed25519_key"), "ed25519"),
            (named.clone(), "ecdsa"),
            (ssh.join("ssh_host_rsa_key"), "rsa"),
        ] {
            make("ssh-keygen", kind, &path, "golden").expect("ssh-keygen is needed for this test");
        }
        // Site-specific keys: with a name of their own, and without the public half.
        let bare = ssh.join("keys/node");
        make("ssh-keygen", "ed25519", &bare, "golden").unwrap();
        fs::remove_file(ssh.join("keys/node.pub")).unwrap();
        let secret = fs::read(&bare).unwrap();
        let label = b"system_u:object_r:sshd_key_t:s0\0";
        rustix::fs::setxattr(&bare, "security.selinux", label, rustix::fs::XattrFlags::empty()).unwrap();
        fs::write(ssh.join("ssh_host_dsa_key"), "old").unwrap();
        fs::write(ssh.join("ssh_host_ed25519_key-cert.pub"), "certificate").unwrap();
        fs::set_permissions(ssh.join("ssh_host_ed25519_key"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::write(
            ssh.join("sshd_config"),
            "Port 22\nhostkey /etc/ssh/keys/host\nHostKey /etc/ssh/keys/node\n",
        )
        .unwrap();
        let site = root.path().join("etc/ka/identity.d");
        fs::create_dir_all(&site).unwrap();
        fs::write(site.join("ssh"), "keep /etc/ssh/ssh_host_rsa_key\n").unwrap();
        let read = |name: &str| fs::read_to_string(ssh.join(name)).unwrap();
        let (ed25519, rsa, host) =
            (read("ssh_host_ed25519_key"), read("ssh_host_rsa_key"), read("keys/host.pub"));

        renew(root.path(), &List::read(root.path()).unwrap(), "node7").unwrap();

        assert_ne!(read("ssh_host_ed25519_key"), ed25519);
        let public = read("ssh_host_ed25519_key.pub");
        assert!(public.starts_with("ssh-ed25519 ") && public.trim_end().ends_with(" root@node7"), "{public}");
        let mode = fs::metadata(ssh.join("ssh_host_ed25519_key")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(read("ssh_host_rsa_key"), rsa);
        assert_ne!(fs::read(&bare).unwrap(), secret);
        assert!(read("keys/node.pub").starts_with("ssh-ed25519 "));
        let mut found = [0; 64];
        let used = rustix::fs::getxattr(&bare, "security.selinux", &mut found).unwrap();
        assert_eq!(&found[..used], label);
        assert!(read("keys/host.pub").starts_with("ecdsa-sha2-nistp256 ") && read("keys/host.pub") != host);
        assert!(
            !ssh.join("ssh_host_dsa_key").exists() && !ssh.join("ssh_host_ed25519_key-cert.pub").exists()
        );
    }

    #[test]
    fn a_key_of_no_known_kind_is_not_taken_away() {
        let root = tempfile::tempdir().unwrap();
        let ssh = root.path().join("etc/ssh");
        fs::create_dir_all(&ssh).unwrap();
        fs::write(ssh.join("site"), "no key at all\n").unwrap();
        fs::write(ssh.join("sshd_config"), "HostKey /etc/ssh/site\n").unwrap();
        let error = renew(root.path(), &List::read(root.path()).unwrap(), "node7").unwrap_err().to_string();
        assert!(error.contains("ssh-keygen -y"), "{error}");
        assert!(ssh.join("site").exists());
    }
}
