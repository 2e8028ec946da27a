//! The initrd of every installed kernel, built anew on this node by the distribution's own tool.
//!
//! The golden node's initrd may hold the drivers of the golden node's hardware only. What this node
//! needs is added to the tool's configuration, so that later kernels have it too, and what came out is
//! listed: a tool that succeeds without building what was asked for is a failure.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::Cause;
use super::replace::replace;
use super::tool;

/// Rebuilds the initrds below `root`, which is the process's root. `asked_for` are modules that a person
/// wants in; `hardware` are the drivers that this node's hardware needs, where a kernel has them.
pub(super) fn rebuild(root: &Path, asked_for: &[String], hardware: &[String]) -> Result<(), Cause> {
    let kernels = Kernel::installed(root)?;
    if kernels.is_empty() {
        return Err(Cause::NoKernel);
    }
    if let Some(module) = asked_for.iter().find(|module| kernels.iter().all(|kernel| !kernel.has(module))) {
        return Err(Cause::NoSuchModule { module: module.clone() });
    }
    let wanted: BTreeSet<String> = asked_for.iter().chain(hardware).map(|name| plain(name)).collect();
    let Some(builder) = Builder::of_this_system() else {
        if kernels.iter().any(|kernel| Builder::ALL.iter().any(|b| b.initrd(root, kernel).exists())) {
            let tool = "update-initramfs or dracut".to_owned();
            return Err(Cause::MissingTool { tool });
        }
        log::info!("this system boots without an initrd");
        return Ok(());
    };
    for kernel in &kernels {
        builder.rebuild(root, kernel, &wanted)?;
    }
    Ok(())
}

/// A kernel that can be booted.
#[derive(Debug)]
struct Kernel {
    version: String,
    /// Its loadable modules.
    loadable: BTreeSet<String>,
    /// Its modules that are part of the kernel itself.
    builtin: BTreeSet<String>,
}

impl Kernel {
    /// The kernels below `/boot` with modules below `/lib/modules`, by version.
    fn installed(root: &Path) -> Result<Vec<Self>, Cause> {
        let boot = root.join("boot");
        let mut kernels = Vec::new();
        for entry in fs::read_dir(&boot).map_err(|e| Cause::file("list", &boot, e))? {
            let entry = entry.map_err(|e| Cause::file("list", &boot, e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let version = ["vmlinuz-", "vmlinux-"].iter().find_map(|prefix| name.strip_prefix(prefix));
            let Some(version) = version.filter(|version| !version.contains("rescue")) else {
                continue;
            };
            let modules = root.join("lib/modules").join(version);
            if modules.is_dir() {
                kernels.push(Self {
                    version: version.to_owned(),
                    loadable: listed(&modules.join("modules.dep"))?,
                    builtin: listed(&modules.join("modules.builtin"))?,
                });
            } else {
                log::warn!("{name} has no modules under /lib/modules: its initrd stays as it is");
            }
        }
        kernels.sort_by(|a, b| a.version.cmp(&b.version));
        Ok(kernels)
    }

    fn has(&self, module: &str) -> bool {
        let module = plain(module);
        self.loadable.contains(&module) || self.builtin.contains(&module)
    }
}

/// The modules that a line of `file` (`modules.dep`, `modules.builtin`) begins with.
fn listed(file: &Path) -> Result<BTreeSet<String>, Cause> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.lines().filter_map(|line| module_of(line.split(':').next()?)).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(e) => Err(Cause::file("read", file, e)),
    }
}

/// The module that a path such as `kernel/drivers/block/virtio_blk.ko.xz` holds.
fn module_of(path: &str) -> Option<String> {
    let (stem, compression) = path.rsplit('/').next()?.split_once(".ko")?;
    (compression.is_empty() || compression.starts_with('.')).then(|| plain(stem))
}

/// A module's name as the kernel writes it: file names have `-` where the kernel has `_`.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// A distribution's tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Builder {
    InitramfsTools,
    Dracut,
}

impl Builder {
    const ALL: [Self; 2] = [Self::InitramfsTools, Self::Dracut];

    fn of_this_system() -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|builder| builder.programs().iter().all(|program| tool::find(&[program]).is_some()))
    }

    /// What builds and what lists.
    fn programs(self) -> [&'static str; 2] {
        match self {
            Self::InitramfsTools => ["update-initramfs", "lsinitramfs"],
            Self::Dracut => ["dracut", "lsinitrd"],
        }
    }

    /// The file that the tool makes for `kernel`.
    fn initrd(self, root: &Path, kernel: &Kernel) -> PathBuf {
        let boot = root.join("boot");
        let debian = boot.join(format!("initrd.img-{}", kernel.version));
        match self {
            Self::InitramfsTools => debian,
            Self::Dracut if debian.exists() => debian,
            Self::Dracut => boot.join(format!("initramfs-{}.img", kernel.version)),
        }
    }

    /// The modules that lack in the golden node's initrd are configured before, so that one build is
    /// enough. The listing of the new one is the proof; only a tool that looks at the hardware
    /// (`MODULES=dep`) and left out what the golden node's hardware had brought in has to build twice.
    fn rebuild(self, root: &Path, kernel: &Kernel, wanted: &BTreeSet<String>) -> Result<(), Cause> {
        let initrd = self.initrd(root, kernel);
        let wanted: BTreeSet<String> =
            wanted.iter().filter(|module| kernel.loadable.contains(*module)).cloned().collect();
        if initrd.exists() {
            self.configure(root, &self.lacking(&initrd, &wanted)?)?;
        } else {
            self.configure(root, &wanted)?;
        }
        self.build(kernel, &initrd)?;
        let lacking = self.lacking(&initrd, &wanted)?;
        if lacking.is_empty() {
            return Ok(());
        }
        self.configure(root, &lacking)?;
        self.build(kernel, &initrd)?;
        let lacking = self.lacking(&initrd, &wanted)?;
        if lacking.is_empty() {
            return Ok(());
        }
        Err(Cause::InitrdLacks { initrd, modules: lacking.into_iter().collect(), tool: self.programs()[0] })
    }

    /// Those of `wanted` that `initrd` does not hold.
    fn lacking(self, initrd: &Path, wanted: &BTreeSet<String>) -> Result<BTreeSet<String>, Cause> {
        let listing = tool::output_of(self.programs()[1], &[&initrd.to_string_lossy()])?;
        // lsinitrd lists like `ls -l`: the path is the last word.
        let paths = listing.lines().filter_map(|line| line.split_whitespace().next_back());
        let held: BTreeSet<String> = paths.filter_map(module_of).collect();
        Ok(wanted.difference(&held).cloned().collect())
    }

    /// Asks for `modules` in every initrd from now on.
    fn configure(self, root: &Path, modules: &BTreeSet<String>) -> Result<(), Cause> {
        if modules.is_empty() {
            return Ok(());
        }
        log::info!("the initrd needs {modules:?} for this node");
        let path = match self {
            Self::InitramfsTools => root.join("etc/initramfs-tools/modules"),
            Self::Dracut => root.join("etc/dracut.conf.d/ka.conf"),
        };
        let old = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::write(&path, "").map_err(|e| Cause::file("make", &path, e))?;
                String::new()
            }
            Err(e) => return Err(Cause::file("read", &path, e)),
        };
        replace(&path, with_modules(self, &old, modules).as_bytes())
    }

    fn build(self, kernel: &Kernel, initrd: &Path) -> Result<(), Cause> {
        let program = self.programs()[0];
        let before = identity(initrd)?;
        match self {
            Self::InitramfsTools => {
                let mode = if before.is_some() { "-u" } else { "-c" };
                tool::run(program, &[mode, "-k", &kernel.version])?;
            }
            Self::Dracut => tool::run(program, &["--force", &initrd.to_string_lossy(), &kernel.version])?,
        }
        // update-initramfs succeeds without doing anything where its configuration says update_initramfs=no.
        let after = identity(initrd)?;
        if after.is_none() || after == before {
            let wrong = format!("was not rebuilt, though {program} succeeded");
            return Err(Cause::NotBootable { path: initrd.to_owned(), wrong });
        }
        Ok(())
    }
}

/// What changes when a file is written or replaced, and cannot be set back: its inode and change time.
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_read_from_the_kernels_lists_and_from_listings() {
        for (path, module) in [
            ("kernel/drivers/block/virtio_blk.ko", Some("virtio_blk")),
            ("usr/lib/modules/6.1.0/kernel/drivers/scsi/sd_mod.ko.xz", Some("sd_mod")),
            ("kernel/drivers/ata/ata-piix.ko.zst", Some("ata_piix")),
            ("kernel/lib/x.ko.gz", Some("x")),
            ("nvme-core.ko", Some("nvme_core")),
            ("usr/lib/modules/6.1.0/modules.dep", None),
            ("usr/lib/a.konf", None),
            ("", None),
        ] {
            assert_eq!(module_of(path).as_deref(), module, "{path}");
        }
    }

    #[test]
    fn kernels_are_those_with_an_image_and_modules() {
        let root = tempfile::tempdir().unwrap();
        for directory in ["boot", "lib/modules/6.1.0-1-amd64", "lib/modules/5.10.0"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        for image in ["vmlinuz-6.1.0-1-amd64", "vmlinuz-4.19.0", "vmlinuz-0-rescue-1234", "System.map-5.10.0"]
        {
            fs::write(root.path().join("boot").join(image), "").unwrap();
        }
        let modules = root.path().join("lib/modules/6.1.0-1-amd64");
        fs::write(modules.join("modules.dep"), "kernel/a-b.ko: kernel/c.ko\nkernel/c.ko:\n").unwrap();
        fs::write(modules.join("modules.builtin"), "kernel/fs/ext4/ext4.ko\n").unwrap();

        let kernels = Kernel::installed(root.path()).unwrap();
        let versions: Vec<_> = kernels.iter().map(|kernel| kernel.version.as_str()).collect();
        assert_eq!(versions, ["6.1.0-1-amd64"]);
        assert!(["a_b", "a-b", "c", "ext4"].iter().all(|module| kernels[0].has(module)));
        assert!(!kernels[0].has("d"));
    }

    #[test]
    fn a_module_that_no_kernel_has_is_refused_before_anything_is_built() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("boot")).unwrap();
        assert!(matches!(rebuild(root.path(), &[], &[]), Err(Cause::NoKernel)));
        fs::write(root.path().join("boot/vmlinuz-1"), "").unwrap();
        fs::create_dir_all(root.path().join("lib/modules/1")).unwrap();
        let error = rebuild(root.path(), &["ata_piix".to_owned()], &[]).unwrap_err();
        assert_eq!(error.to_string(), "no installed kernel has the module ata_piix");
    }

    #[test]
    fn configuration_is_added_to() {
        let modules = BTreeSet::from(["nvme".to_owned(), "ahci".to_owned()]);
        assert_eq!(
            with_modules(Builder::InitramfsTools, "# List\nloop", &modules),
            "# List\nloop\n# ka: what this machine's hardware needs\nahci\nnvme\n"
        );
        assert_eq!(with_modules(Builder::Dracut, "", &modules), "add_drivers+=\" ahci nvme \"\n");
    }
}
