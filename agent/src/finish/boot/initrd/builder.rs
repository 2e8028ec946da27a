//! The distributions' tools that build initrds.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::finish::error::Cause;
use crate::finish::replace::{create, replace};
use crate::finish::tool;
use ka_host::system::{Kernel, module_of};

/// An initrd tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Builder {
    /// update-initramfs (Debian).
    InitramfsTools,
    /// dracut (Fedora and many others).
    Dracut,
    /// mkinitcpio (Arch).
    Mkinitcpio,
    /// Red Hat's mkinitrd, before dracut.
    Mkinitrd,
    /// SUSE's mkinitrd, before dracut, under the same name.
    SuseMkinitrd,
}

impl Builder {
    pub(super) const ALL: [Self; 5] =
        [Self::InitramfsTools, Self::Dracut, Self::Mkinitcpio, Self::Mkinitrd, Self::SuseMkinitrd];

    /// The tool of this system. `root` is the process's root.
    pub(super) fn of_this_system(root: &Path) -> Option<Self> {
        let suse = is_suse(root);
        Self::ALL.into_iter().find(|builder| {
            let other_mkinitrd =
                *builder == Self::Mkinitrd && suse || *builder == Self::SuseMkinitrd && !suse;
            !other_mkinitrd && builder.programs().iter().all(|program| tool::find(&[program]).is_some())
        })
    }

    /// The programs that build and list an initrd.
    fn programs(self) -> [&'static str; 2] {
        match self {
            Self::InitramfsTools => ["update-initramfs", "lsinitramfs"],
            Self::Dracut => ["dracut", "lsinitrd"],
            Self::Mkinitcpio => ["mkinitcpio", "lsinitcpio"],
            Self::Mkinitrd | Self::SuseMkinitrd => ["mkinitrd", "cpio"],
        }
    }

    /// The file that the tool creates for `kernel`.
    pub(super) fn initrd(self, root: &Path, kernel: &Kernel) -> PathBuf {
        let boot = root.join("boot");
        let (debian, suse, other) = (
            boot.join(format!("initrd.img-{}", kernel.version)),
            boot.join(format!("initrd-{}", kernel.version)),
            boot.join(format!("initramfs-{}.img", kernel.version)),
        );
        match self {
            Self::InitramfsTools => debian,
            // The existing one, in the order in which GRUB's menu looks for it.
            Self::Dracut if debian.exists() => debian,
            Self::Dracut if suse.exists() || !other.exists() && is_from_suse(root) => suse,
            Self::Dracut => other,
            Self::Mkinitcpio => boot.join(format!("initramfs-{}.img", kernel.image)),
            Self::Mkinitrd => boot.join(format!("initrd-{}.img", kernel.version)),
            Self::SuseMkinitrd => suse,
        }
    }

    /// Modules that the golden node's initrd lacks are configured beforehand, so that one build is enough.
    /// Listing the new initrd proves it. Only a tool that inspects the hardware (`MODULES=dep`), and so
    /// dropped modules for the golden node's hardware, has to build twice.
    pub(super) fn rebuild(
        self,
        root: &Path,
        kernel: &Kernel,
        wanted: &BTreeSet<String>,
    ) -> Result<(), Cause> {
        let initrd = self.initrd(root, kernel);
        let wanted: BTreeSet<String> =
            wanted.iter().filter(|module| kernel.loadable.contains(*module)).cloned().collect();
        if initrd.exists() {
            self.configure(root, &self.lacking(&initrd, &wanted)?)?;
        } else {
            self.configure(root, &wanted)?;
        }
        self.build(root, kernel, &initrd, &wanted)?;
        let lacking = self.lacking(&initrd, &wanted)?;
        if lacking.is_empty() {
            return Ok(());
        }
        self.configure(root, &lacking)?;
        self.build(root, kernel, &initrd, &wanted)?;
        let lacking = self.lacking(&initrd, &wanted)?;
        if lacking.is_empty() {
            return Ok(());
        }
        Err(Cause::InitrdLacks { initrd, modules: lacking.into_iter().collect(), tool: self.programs()[0] })
    }

    /// The modules of `wanted` that `initrd` does not contain.
    fn lacking(self, initrd: &Path, wanted: &BTreeSet<String>) -> Result<BTreeSet<String>, Cause> {
        let path = initrd.to_string_lossy();
        let listing = match self {
            Self::Mkinitrd | Self::SuseMkinitrd => {
                tool::output_of("sh", &["-c", "gzip -dc \"$0\" | cpio -it --quiet", &path])?
            }
            _ => tool::output_of(self.programs()[1], &[&path])?,
        };
        // lsinitrd's lines look like `ls -l`: the path is the last word.
        let paths = listing.lines().filter_map(|line| line.split_whitespace().next_back());
        let held: BTreeSet<String> = paths.filter_map(module_of).collect();
        Ok(wanted.difference(&held).cloned().collect())
    }

    /// Configures `modules` for every future initrd. Red Hat's mkinitrd uses `scsi_hostadapter` in
    /// modprobe.conf, which has been rewritten for this node by now.
    fn configure(self, root: &Path, modules: &BTreeSet<String>) -> Result<(), Cause> {
        if modules.is_empty() {
            return Ok(());
        }
        log::info!("this node's initrd needs the modules {modules:?}");
        let path = match self {
            Self::InitramfsTools => root.join("etc/initramfs-tools/modules"),
            Self::Dracut => root.join("etc/dracut.conf.d/ka.conf"),
            Self::Mkinitcpio => root.join("etc/mkinitcpio.conf"),
            Self::SuseMkinitrd => root.join("etc/sysconfig/kernel"),
            Self::Mkinitrd => return Ok(()),
        };
        let old = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                create(&path, b"")?;
                String::new()
            }
            Err(e) => return Err(Cause::file("read", &path, e)),
        };
        replace(&path, with_modules(self, &old, modules).as_bytes())
    }

    fn build(
        self,
        root: &Path,
        kernel: &Kernel,
        initrd: &Path,
        wanted: &BTreeSet<String>,
    ) -> Result<(), Cause> {
        let program = self.programs()[0];
        let before = identity(initrd)?;
        let path = initrd.to_string_lossy();
        match self {
            Self::InitramfsTools => {
                let mode = if before.is_some() { "-u" } else { "-c" };
                tool::run(program, &[mode, "-k", &kernel.version])?;
            }
            Self::Dracut => tool::run(program, &["--force", &path, &kernel.version])?,
            Self::Mkinitcpio if root.join(format!("etc/mkinitcpio.d/{}.preset", kernel.image)).exists() => {
                tool::run(program, &["-p", &kernel.image])?;
            }
            Self::Mkinitcpio => tool::run(program, &["-k", &kernel.version, "-g", &path])?,
            Self::Mkinitrd => {
                let with: Vec<String> = wanted.iter().map(|module| format!("--with={module}")).collect();
                let mut words = vec!["-f"];
                words.extend(with.iter().map(String::as_str));
                words.extend([&*path, kernel.version.as_str()]);
                tool::run(program, &words)?;
            }
            Self::SuseMkinitrd => {
                let image = root.join("boot").join(format!("vmlinuz-{}", kernel.image));
                tool::run(program, &["-k", &image.to_string_lossy(), "-i", &path])?;
            }
        }
        // update-initramfs succeeds without doing anything if its configuration says update_initramfs=no.
        let after = identity(initrd)?;
        if after.is_none() || after == before {
            let wrong = format!("was not rebuilt, though {program} succeeded");
            return Err(Cause::NotBootable { path: initrd.to_owned(), wrong });
        }
        Ok(())
    }
}

/// Whether the system is a SUSE distribution, by os-release(5).
fn is_from_suse(root: &Path) -> bool {
    let text = fs::read_to_string(root.join("etc/os-release"))
        .or_else(|_| fs::read_to_string(root.join("usr/lib/os-release")))
        .unwrap_or_default();
    text.lines()
        .filter(|line| line.starts_with("ID=") || line.starts_with("ID_LIKE="))
        .any(|line| line.contains("suse"))
}

/// This variable tells SUSE's tool what to load.
fn is_suse(root: &Path) -> bool {
    fs::read_to_string(root.join("etc/sysconfig/kernel")).is_ok_and(|text| text.contains("INITRD_MODULES="))
}

/// Identifies a version of a file: inode and change time, which change with every write or replacement and
/// cannot be set back.
fn identity(path: &Path) -> Result<Option<(u64, i64, i64)>, Cause> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Cause::file("look at", path, e)),
    }
}

/// The tool's configuration `old` with `modules` added.
fn with_modules(builder: Builder, old: &str, modules: &BTreeSet<String>) -> String {
    let mut new = old.to_owned();
    if !new.is_empty() && !new.ends_with('\n') {
        new.push('\n');
    }
    let names = modules.iter().map(String::as_str).collect::<Vec<_>>();
    match builder {
        Builder::InitramfsTools => {
            new + "# ka: what this machine's hardware needs\n" + &names.join("\n") + "\n"
        }
        Builder::Dracut => new + "add_drivers+=\" " + &names.join(" ") + " \"\n",
        // A bash array, in a file that bash reads.
        Builder::Mkinitcpio => {
            new + "# ka: what this machine's hardware needs\nMODULES+=(" + &names.join(" ") + ")\n"
        }
        Builder::SuseMkinitrd => {
            new + "# ka: what this machine's hardware needs\nINITRD_MODULES=\"$INITRD_MODULES "
                + &names.join(" ")
                + "\"\n"
        }
        Builder::Mkinitrd => new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dracut_makes_the_initrd_that_the_menu_starts() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["boot", "etc", "lib/modules/6.4"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("boot/vmlinuz-6.4"), "").unwrap();
        let kernel = &Kernel::installed(root.path()).unwrap()[0];
        let made = || Builder::Dracut.initrd(root.path(), kernel).file_name().unwrap().to_owned();
        assert_eq!(made(), "initramfs-6.4.img");
        fs::write(root.path().join("etc/os-release"), "NAME=x\nID=\"opensuse-leap\"\n").unwrap();
        assert_eq!(made(), "initrd-6.4");
        for (there, expected) in [
            ("initramfs-6.4.img", "initramfs-6.4.img"),
            ("initrd-6.4", "initrd-6.4"),
            ("initrd.img-6.4", "initrd.img-6.4"),
        ] {
            fs::write(root.path().join("boot").join(there), "").unwrap();
            assert_eq!(made(), expected);
        }
    }

    #[test]
    fn configuration_is_added_to() {
        let modules = BTreeSet::from(["nvme".to_owned(), "ahci".to_owned()]);
        assert_eq!(
            with_modules(Builder::InitramfsTools, "# List\nloop", &modules),
            "# List\nloop\n# ka: what this machine's hardware needs\nahci\nnvme\n"
        );
        assert_eq!(with_modules(Builder::Dracut, "", &modules), "add_drivers+=\" ahci nvme \"\n");
        assert_eq!(
            with_modules(Builder::Mkinitcpio, "MODULES=(loop)\n", &modules),
            "MODULES=(loop)\n# ka: what this machine's hardware needs\nMODULES+=(ahci nvme)\n"
        );
    }
}
