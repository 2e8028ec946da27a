//! The directory that TFTP and HTTP serve: boot loaders, stage1, and the loaders' configuration.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::loaders::{LoaderError, Loaders};
use super::menu::{self, Boot, Settings};
use super::{ipxe, pxelinux};
use crate::config::pxe::Booting;
use ka_host::atomic::{self, FileError};
use ka_host::guarded;

/// The files that `kactl image` creates.
const STAGE1: [&str; 2] = ["vmlinuz", LONG_LIVED];
const LONG_LIVED: &str = "all.rdz";

/// As root, dnsmasq serves only world-readable files. The directory itself is accessible only to root,
/// because the boot image contains the join key.
const SERVED: u32 = 0o644;
/// Files that neither TFTP nor HTTP serves.
const HIDDEN: u32 = 0o600;
const PRIVATE_DIRECTORY: u32 = 0o700;

/// Why the directory cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The boot image is missing.
    #[error("{} is missing: create the boot image with `kactl image`", path.display())]
    NoImage {
        /// The missing file.
        path: PathBuf,
    },
    /// A boot loader is missing.
    #[error(transparent)]
    NoLoader(#[from] LoaderError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// How a boot loader learns what a machine boots.
#[derive(Clone, Copy, Debug)]
struct Menu {
    directory: &'static str,
    render: fn(&Boot, &Settings, &Booting) -> String,
}

const BIOS: Menu = Menu { directory: pxelinux::DIRECTORY, render: pxelinux::render };
const IPXE: Menu = Menu { directory: ipxe::DIRECTORY, render: ipxe::render };

/// The served directory.
#[derive(Debug)]
pub struct BootDirectory {
    root: PathBuf,
    settings: Settings,
    menus: Vec<Menu>,
}

impl BootDirectory {
    /// Checks that there is something to boot, installs the boot loaders, and makes every machine boot from
    /// its own disk, whatever an earlier server left behind.
    ///
    /// # Errors
    /// [`FilesError`] with what is missing and how to get it.
    pub fn prepare(root: &Path, loaders: &Loaders, settings: Settings) -> Result<Self, FilesError> {
        for path in STAGE1.map(|name| root.join(name)) {
            if !path.is_file() {
                return Err(FilesError::NoImage { path });
            }
        }
        guarded::directory(root, PRIVATE_DIRECTORY)?;
        for (file, package) in &loaders.files {
            bring(file, package, root)?;
        }
        let mut menus = vec![BIOS];
        if loaders.has_ipxe() {
            put(&root.join(ipxe::ENTRY), ipxe::ENTRY_TEXT.as_bytes())?;
            menus.push(IPXE);
        }
        let boot = Self { root: root.to_owned(), settings, menus };
        for menu in &boot.menus {
            guarded::directory(&root.join(menu.directory), 0o755)?;
        }
        boot.all_local()?;
        boot.hide_long_lived_key(true)?;
        Ok(boot)
    }

    /// What the files contain besides each machine's boot target.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The served directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Updates the files that differ from `menu`.
    ///
    /// The order prevents a machine from booting `kamethod` in between: first the machines that boot locally,
    /// then the others. Files that are no longer needed are removed last, when `default` is already right.
    ///
    /// # Errors
    /// [`FileError`]. Everything before it in that order is done.
    pub fn apply(&self, menu: &BTreeMap<String, Boot>) -> Result<(), FileError> {
        self.make_kernel_readable()?;
        let by_hand = menu.values().find_map(Boot::image).map(str::to_owned);
        let settings = Settings { by_hand, ..self.settings.clone() };
        let (local, others): (Vec<_>, Vec<_>) = menu.iter().partition(|(_, boot)| **boot == Boot::Local);
        for (name, boot) in local.into_iter().chain(others) {
            let mut changed = false;
            for Menu { directory, render } in &self.menus {
                let text = render(boot, &settings, settings.booting(name));
                changed |= put(&self.root.join(directory).join(name), text.as_bytes())?;
            }
            if changed {
                log::info!("{}", tell(name, boot));
            }
        }
        self.remove_others(menu)
    }

    /// The image with the long-lived key is served only if the runs have no images of their own.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn hide_long_lived_key(&self, hide: bool) -> Result<(), FileError> {
        self.set_mode(LONG_LIVED, if hide { HIDDEN } else { SERVED })
    }

    fn set_mode(&self, name: &str, mode: u32) -> Result<(), FileError> {
        let path = self.root.join(name);
        let has = |metadata: fs::Metadata| metadata.permissions().mode() & 0o777 == mode;
        if fs::metadata(&path).is_ok_and(|metadata| !has(metadata)) {
            fs::set_permissions(&path, Permissions::from_mode(mode))
                .map_err(FileError::new("change the mode of", &path))?;
        }
        Ok(())
    }

    /// `kactl image` may install new files at any time, with the modes of the kernel package.
    fn make_kernel_readable(&self) -> Result<(), FileError> {
        self.set_mode(STAGE1[0], SERVED)
    }

    /// Makes every machine boot from its own disk.
    ///
    /// # Errors
    /// [`FileError`] as of [`Self::apply`].
    pub fn all_local(&self) -> Result<(), FileError> {
        self.apply(&menu::choose(&[], &self.settings))
    }

    /// Files of machines that no lease names any more, including those of an earlier server.
    fn remove_others(&self, menu: &BTreeMap<String, Boot>) -> Result<(), FileError> {
        for directory in self.menus.iter().map(|menu| self.root.join(menu.directory)) {
            for entry in fs::read_dir(&directory).map_err(FileError::new("list", &directory))? {
                let path = entry.map_err(FileError::new("list", &directory))?.path();
                let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                if !menu.contains_key(name) {
                    fs::remove_file(&path).map_err(FileError::new("remove", &path))?;
                }
            }
        }
        Ok(())
    }
}

fn tell(file: &str, boot: &Boot) -> String {
    let who = match file.strip_prefix("01-") {
        Some(mac) => mac.replace('-', ":"),
        None => "every machine not named by a run".to_owned(),
    };
    match boot {
        Boot::Local => format!("{who} boots from its disk"),
        Boot::Kamethod { session, .. } => format!("{who} boots kamethod for session {session}"),
    }
}

/// Copies a part of the boot loader unless an identical copy is there.
fn bring(file: &Path, package: &'static str, root: &Path) -> Result<(), FilesError> {
    let Some(content) = read_if_there(file)? else {
        return Err(LoaderError { path: file.to_owned(), package }.into());
    };
    let Some(name) = file.file_name() else { return Ok(()) };
    put(&root.join(name), &content)?;
    Ok(())
}

/// Writes a served file if it differs, and returns whether it did.
fn put(path: &Path, content: &[u8]) -> Result<bool, FileError> {
    let differs = read_if_there(path)?.as_deref() != Some(content);
    if differs {
        atomic::write(path, content, SERVED)?;
    }
    Ok(differs)
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(FileError::new("read", path)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::pxe::{BiosLoader, Ipxe, LocalPxelinux, Pxe};
    use crate::pxe::menu::tests::settings;

    fn loaders() -> Loaders {
        Loaders::find(&Pxe::default()).unwrap()
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_missing_image_names_the_command_that_makes_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("vmlinuz"), "kernel").unwrap();
        let error = BootDirectory::prepare(dir.path(), &loaders(), settings()).unwrap_err().to_string();
        assert!(error.contains("all.rdz") && error.contains("kactl image"), "{error}");
    }

    #[test]
    fn a_missing_loader_names_its_package() {
        let dir = tempfile::tempdir().unwrap();
        let error =
            bring(Path::new("/nonexistent/pxelinux.0"), "pxelinux", dir.path()).unwrap_err().to_string();
        assert!(error.contains("apt-get install pxelinux"), "{error}");
    }

    #[test]
    fn what_an_earlier_server_left_becomes_local() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("boot");
        for menu in [BIOS, IPXE] {
            fs::create_dir_all(root.join(menu.directory)).unwrap();
        }
        for file in ["vmlinuz", "all.rdz"] {
            fs::write(root.join(file), file).unwrap();
            fs::set_permissions(root.join(file), Permissions::from_mode(0o600)).unwrap();
        }
        let kamethod =
            Boot::Kamethod { session: "s".into(), server: None, port: None, image: None, store_log: None };
        for file in ["default", "01-52-54-00-00-00-01"] {
            for Menu { directory, render } in [BIOS, IPXE] {
                fs::write(
                    root.join(directory).join(file),
                    render(&kamethod, &settings(), &Booting::default()),
                )
                .unwrap();
            }
        }
        assert!(loaders().serves_uefi(), "is the package ipxe missing?");
        BootDirectory::prepare(&root, &loaders(), settings()).unwrap();
        for Menu { directory, render } in [BIOS, IPXE] {
            assert_eq!(names(&root.join(directory)), ["default"]);
            let text = fs::read_to_string(root.join(directory).join("default")).unwrap();
            assert_eq!(text, render(&Boot::Local, &settings(), &Booting::default()));
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&root), mode(&root.join("vmlinuz"))), (0o700, 0o644));
        // Decided later, when all other files are known.
        assert_eq!(mode(&root.join("all.rdz")), 0o600);
        assert_eq!(
            names(&root),
            [
                "all.rdz",
                "boot.ipxe",
                "ipxe",
                "ldlinux.c32",
                "lpxelinux.0",
                "pxelinux.0",
                "pxelinux.cfg",
                "snponly.efi",
                "vmlinuz"
            ]
        );
    }

    #[test]
    fn what_the_configuration_asks_for_is_brought() {
        let dir = tempfile::tempdir().unwrap();
        for file in STAGE1 {
            fs::write(dir.path().join(file), file).unwrap();
        }
        let own = dir.path().join("own.efi");
        fs::write(&own, "iPXE of the site's").unwrap();
        let machine = Booting {
            bios: BiosLoader::Undionly,
            ipxe: Ipxe::File(own.clone()),
            local_pxelinux: LocalPxelinux::Chain,
            ..Booting::default()
        };
        let pxe = Pxe {
            boot: Booting { ipxe: Ipxe::Ipxe, ..Booting::default() },
            machines: [("52:54:00:00:00:01".parse().unwrap(), machine)].into(),
            ..Pxe::default()
        };
        let root = dir.path().join("boot");
        fs::create_dir(&root).unwrap();
        for file in STAGE1 {
            fs::write(root.join(file), file).unwrap();
        }
        BootDirectory::prepare(&root, &Loaders::find(&pxe).unwrap(), settings()).unwrap();
        let names = names(&root);
        for file in [
            "ipxe.efi",
            "own.efi",
            "undionly.kpxe",
            "lpxelinux.0",
            "chain.c32",
            "libcom32.c32",
            "libutil.c32",
        ] {
            assert!(names.iter().any(|name| name == file), "{file} is missing in {names:?}");
        }
        assert!(!names.iter().any(|name| name == "snponly.efi"));

        fs::remove_file(&own).unwrap();
        let error = Loaders::find(&pxe).unwrap_err().to_string();
        assert!(error.contains("own.efi is missing: the configuration's [pxe] names it"), "{error}");
    }
}
