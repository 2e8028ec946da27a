//! The bootable kernels of a system, and their modules.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::atomic::FileError;

/// A bootable kernel.
#[derive(Debug)]
pub struct Kernel {
    /// The image's name after `vmlinuz-`: the version, or the package's name (Arch).
    pub image: String,
    /// The version, which names its module directory.
    pub version: String,
    /// Its loadable modules.
    pub loadable: BTreeSet<String>,
    /// Its built-in modules.
    builtin: BTreeSet<String>,
}

impl Kernel {
    /// The kernels below `/boot` with modules below `/lib/modules`, by version.
    pub fn installed(root: &Path) -> Result<Vec<Self>, FileError> {
        let boot = root.join("boot");
        let mut kernels = Vec::new();
        for entry in fs::read_dir(&boot).map_err(|e| FileError::new("list", &boot)(e))? {
            let entry = entry.map_err(|e| FileError::new("list", &boot)(e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let image = ["vmlinuz-", "vmlinux-"].iter().find_map(|prefix| name.strip_prefix(prefix));
            let Some(image) = image.filter(|image| !image.contains("rescue")) else {
                continue;
            };
            let Some(version) = version_of(root, image)? else {
                log::warn!("{name} has no modules under /lib/modules: its initrd stays as it is");
                continue;
            };
            let modules = root.join("lib/modules").join(&version);
            kernels.push(Self {
                image: image.to_owned(),
                loadable: listed(&modules.join("modules.dep"))?,
                builtin: listed(&modules.join("modules.builtin"))?,
                version,
            });
        }
        kernels.sort_by(|a, b| by_number(&a.version, &b.version));
        Ok(kernels)
    }

    /// Whether it has the module, loadable or built in.
    #[must_use]
    pub fn has(&self, module: &str) -> bool {
        let module = plain(module);
        self.loadable.contains(&module) || self.builtin.contains(&module)
    }
}

/// The version of the kernel in `vmlinuz-IMAGE`. Arch names images by package, and records the package next
/// to the modules.
fn version_of(root: &Path, image: &str) -> Result<Option<String>, FileError> {
    let all = root.join("lib/modules");
    if all.join(image).is_dir() {
        return Ok(Some(image.to_owned()));
    }
    let entries = match fs::read_dir(&all) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(FileError::new("list", &all)(e)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| FileError::new("list", &all)(e))?;
        if fs::read_to_string(entry.path().join("pkgbase")).is_ok_and(|package| package.trim() == image) {
            return Ok(Some(entry.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

/// The image of the default kernel: the one that a link names, else the newest.
pub fn default(root: &Path, kernels: &[Kernel]) -> Option<String> {
    let linked = ["boot/vmlinuz", "vmlinuz"].into_iter().find_map(|link| {
        let target = fs::read_link(root.join(link)).ok()?;
        let image = target.file_name()?.to_str()?.strip_prefix("vmlinuz-")?.to_owned();
        kernels.iter().any(|kernel| kernel.image == image).then_some(image)
    });
    linked.or_else(|| kernels.last().map(|kernel| kernel.image.clone()))
}

/// Compares versions numerically: 6.10 is after 6.9.
fn by_number(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| -> Vec<(u64, String)> {
        text.split(|c: char| !c.is_ascii_alphanumeric())
            .map(|part| {
                let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
                let (number, rest) = part.split_at(digits);
                (number.parse().unwrap_or(0), rest.to_owned())
            })
            .collect()
    };
    parts(a).cmp(&parts(b)).then_with(|| a.cmp(b))
}

/// The modules named at the start of each line of `file` (`modules.dep`, `modules.builtin`).
fn listed(file: &Path) -> Result<BTreeSet<String>, FileError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.lines().filter_map(|line| module_of(line.split(':').next()?)).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(e) => Err(FileError::new("read", file)(e)),
    }
}

/// The module in a path such as `kernel/drivers/block/virtio_blk.ko.xz`.
pub fn module_of(path: &str) -> Option<String> {
    let (stem, compression) = path.rsplit('/').next()?.split_once(".ko")?;
    (compression.is_empty() || compression.starts_with('.')).then(|| plain(stem))
}

/// A module's name as the kernel writes it: file names may have `-` where the kernel has `_`.
pub fn plain(name: &str) -> String {
    name.replace('-', "_")
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
    fn the_default_kernel_is_the_linked_or_the_newest() {
        let root = tempfile::tempdir().unwrap();
        for version in ["6.9.1", "6.10.0", "6.10.0-rc1", "5.4.0-100", "6.12-arch"] {
            let modules = root.path().join("lib/modules").join(version);
            fs::create_dir_all(&modules).unwrap();
            fs::create_dir_all(root.path().join("boot")).unwrap();
            let image = if version == "6.12-arch" { "linux" } else { version };
            fs::write(modules.join("pkgbase"), format!("{image}\n")).unwrap();
            fs::write(root.path().join("boot").join(format!("vmlinuz-{image}")), "").unwrap();
        }
        let kernels = Kernel::installed(root.path()).unwrap();
        let versions: Vec<_> = kernels.iter().map(|kernel| kernel.version.as_str()).collect();
        assert_eq!(versions, ["5.4.0-100", "6.9.1", "6.10.0", "6.10.0-rc1", "6.12-arch"]);
        assert_eq!(default(root.path(), &kernels).as_deref(), Some("linux"));
        std::os::unix::fs::symlink("boot/vmlinuz-6.9.1", root.path().join("vmlinuz")).unwrap();
        assert_eq!(default(root.path(), &kernels).as_deref(), Some("6.9.1"));
    }
}
