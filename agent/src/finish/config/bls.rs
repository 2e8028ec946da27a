//! Boot Loader Specification entries as GRUB reads them on Red Hat's systems.
//!
//! Their names start with the machine ID, and the tools that add, remove and select kernels look for their
//! own machine's ID: a clone with another ID would keep the golden node's entries for ever, and select none
//! of its own. So the finish gives a clone of such a system its ID, and renames its entries.

use std::fs;
use std::path::{Path, PathBuf};

use crate::finish::error::Cause;
use crate::finish::replace::{create, replace};
use ka::menu::bls::options;
use ka_host::system::glob;

/// The directory from which GRUB's `blscfg` reads entries.
const ENTRIES: &str = "boot/loader/entries";

/// GRUB's environment block: the selected entry and, on RHEL 8, the kernel's options.
const ENVIRONMENTS: [&str; 3] = ["boot/grub2/grubenv", "boot/grub/grubenv", "boot/efi/EFI/*/grubenv"];

/// Whether GRUB's entries below `root` are named after the ID `id`, and no other setting determines their
/// names.
pub(in crate::finish) fn is_named_by(root: &Path, id: &str) -> Result<bool, Cause> {
    let has_grub = root.join("boot/grub2").is_dir() || root.join("etc/grub2.cfg").is_symlink();
    let has_token = root.join("etc/kernel/entry-token").exists();
    Ok(has_grub && !has_token && !glob::files(root, &format!("{ENTRIES}/{id}-*.conf"))?.is_empty())
}

/// Renames everything named after the ID `old` to `new`: entries, the rescue kernel that they start, and
/// GRUB's selection.
pub(in crate::finish) fn rename(root: &Path, old: &str, new: &str) -> Result<(), Cause> {
    for entry in glob::files(root, &format!("{ENTRIES}/*.conf"))? {
        let text = read(&entry)?;
        if text.contains(old) {
            replace(&entry, text.replace(old, new).as_bytes())?;
        }
    }
    for pattern in ["boot/*", "boot/loader/entries/*", "boot/grub2/*"] {
        for path in glob::entries(root, pattern)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.contains(old) {
                let to = path.with_file_name(name.replace(old, new));
                fs::rename(&path, &to).map_err(|e| Cause::file("rename", &path, e))?;
                log::info!("{} is {} now", path.display(), to.display());
            }
        }
    }
    for pattern in ENVIRONMENTS {
        for path in glob::files(root, pattern)? {
            let text = read(&path)?;
            if text.contains(old) {
                // Both IDs have the same length, and so does the block.
                replace(&path, text.replace(old, new).as_bytes())?;
            }
        }
    }
    Ok(())
}

/// The kernel's options before GRUB's menu is regenerated.
pub(in crate::finish) struct Options {
    entries: Vec<(PathBuf, String)>,
    environments: Vec<(PathBuf, String)>,
}

impl Options {
    /// Reads them below `root`.
    pub(in crate::finish) fn note(root: &Path) -> Result<Self, Cause> {
        let mut noted = Self { entries: Vec::new(), environments: Vec::new() };
        for entry in glob::files(root, &format!("{ENTRIES}/*.conf"))? {
            noted.entries.push((entry.clone(), read(&entry)?));
        }
        for pattern in ENVIRONMENTS {
            for path in glob::files(root, pattern)? {
                noted.environments.push((path.clone(), read(&path)?));
            }
        }
        Ok(noted)
    }

    /// Restores what grub2-mkconfig has replaced with `GRUB_CMDLINE_LINUX`: the golden node was started with
    /// other options.
    pub(in crate::finish) fn restore(&self) -> Result<(), Cause> {
        for (path, before) in &self.entries {
            if !path.exists() {
                create(path, before.as_bytes())?;
            } else if options(&read(path)?) != options(before) {
                replace(path, before.as_bytes())?;
            } else {
                continue;
            }
            log::info!("{}: has the golden node's options again", path.display());
        }
        for (path, before) in &self.environments {
            if path.exists() && kernel_options(&read(path)?) != kernel_options(before) {
                replace(path, before.as_bytes())?;
                log::info!("{}: has the golden node's options again", path.display());
            }
        }
        Ok(())
    }
}

fn kernel_options(environment: &str) -> Option<&str> {
    environment.lines().find_map(|line| line.strip_prefix("kernelopts="))
}

fn read(path: &Path) -> Result<String, Cause> {
    let bytes = fs::read(path).map_err(|e| Cause::file("read", path, e))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::config::identity;

    const OLD: &str = "0123456789abcdef0123456789abcdef";

    fn red_hat() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let environment =
            format!("# GRUB Environment Block\nsaved_entry={OLD}-5.14.0\nkernelopts=root=UUID=x ro\n");
        let padding = "#".repeat(1024 - environment.len());
        for (name, text) in [
            ("etc/machine-id", format!("{OLD}\n")),
            ("boot/grub2/grubenv", environment + &padding),
            (
                &format!("{ENTRIES}/{OLD}-5.14.0.conf"),
                "linux /vmlinuz-5.14.0\noptions root=UUID=x ro\n".to_owned(),
            ),
            (
                &format!("{ENTRIES}/{OLD}-0-rescue.conf"),
                format!(
                    "linux /vmlinuz-0-rescue-{OLD}\ninitrd /initramfs-0-rescue-{OLD}.img\noptions $kernelopts\n"
                ),
            ),
            (&format!("boot/vmlinuz-0-rescue-{OLD}"), String::new()),
            (&format!("boot/initramfs-0-rescue-{OLD}.img"), String::new()),
        ] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn entries_have_the_clones_id() {
        let root = red_hat();
        identity::renew(root.path(), "node").unwrap();
        let new = identity::machine_id(root.path()).unwrap().expect("the clone has an ID");
        assert_ne!(new, OLD);
        let read = |name: &str| fs::read_to_string(root.path().join(name)).unwrap();
        assert!(read(&format!("{ENTRIES}/{new}-5.14.0.conf")).contains("vmlinuz-5.14.0"));
        assert!(
            read(&format!("{ENTRIES}/{new}-0-rescue.conf")).contains(&format!("/vmlinuz-0-rescue-{new}\n"))
        );
        assert!(root.path().join(format!("boot/initramfs-0-rescue-{new}.img")).exists());
        let environment = read("boot/grub2/grubenv");
        assert!(environment.contains(&format!("saved_entry={new}-5.14.0\n")) && environment.len() == 1024);
        assert!(!root.path().join("etc/kernel/entry-token").exists());
        assert!(!read("boot/grub2/grubenv").contains(OLD));
    }

    #[test]
    fn an_id_that_is_a_name_only_stays_one() {
        let root = red_hat();
        let token = root.path().join("etc/kernel/entry-token");
        fs::create_dir_all(token.parent().unwrap()).unwrap();
        fs::write(&token, OLD).unwrap();
        identity::renew(root.path(), "node").unwrap();
        assert_eq!(identity::machine_id(root.path()).unwrap(), None);
        assert!(root.path().join(format!("{ENTRIES}/{OLD}-5.14.0.conf")).exists());
    }

    #[test]
    fn what_mkconfig_makes_of_other_options_is_put_back() {
        let root = red_hat();
        let entry = root.path().join(format!("{ENTRIES}/{OLD}-5.14.0.conf"));
        let environment = root.path().join("boot/grub2/grubenv");
        let noted = Options::note(root.path()).unwrap();
        let before = [fs::read(&entry).unwrap(), fs::read(&environment).unwrap()];
        fs::write(&entry, "linux /vmlinuz-5.14.0\noptions root=UUID=x ro crashkernel=1G\n").unwrap();
        fs::write(&environment, "# GRUB Environment Block\nkernelopts=root=UUID=x\n").unwrap();
        noted.restore().unwrap();
        assert_eq!([fs::read(&entry).unwrap(), fs::read(&environment).unwrap()], before);
        // The title may differ.
        fs::write(&entry, "title new\nlinux /vmlinuz-5.14.0\noptions root=UUID=x ro\n").unwrap();
        noted.restore().unwrap();
        assert!(fs::read_to_string(&entry).unwrap().starts_with("title new"));
    }
}
