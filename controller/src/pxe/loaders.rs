//! Which boot loader each machine gets: the files, their sources, and which one DHCP names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ka::mac::Mac;

use super::{ipxe, pxelinux};
use crate::config::pxe::{BiosLoader, Booting, Ipxe, LocalPxelinux, Pxe};

/// The boot loader does not exist.
#[derive(Debug, thiserror::Error)]
#[error("{} is missing: {}", path.display(), remedy(package))]
pub struct LoaderError {
    /// The missing file.
    pub path: PathBuf,
    /// The Debian package that contains it; empty if the configuration names the file.
    pub package: &'static str,
}

fn remedy(package: &str) -> String {
    match package {
        "" => "the configuration's [pxe] names it as ipxe".into(),
        package => format!("install it with `apt-get install {package}`"),
    }
}

/// The boot files that DHCP names for a machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loader {
    /// For BIOS.
    pub bios: &'static str,
    /// For UEFI; `None` if there is nothing to boot.
    pub uefi: Option<String>,
}

impl Loader {
    /// Whether BIOS machines get iPXE, which then asks DHCP again.
    #[must_use]
    pub fn bios_is_ipxe(&self) -> bool {
        self.bios == ipxe::UNDIONLY
    }
}

/// The loaders of all machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaders {
    /// For machines without settings of their own.
    pub common: Loader,
    /// For machines with settings of their own.
    pub own: Vec<(Loader, BTreeSet<Mac>)>,
    /// The served files, with the packages that contain them.
    pub(super) files: BTreeSet<(PathBuf, &'static str)>,
}

impl Loaders {
    /// Looks for the configured loaders. Without the ipxe package, UEFI machines get nothing; without
    /// lpxelinux.0, BIOS machines load over TFTP.
    ///
    /// # Errors
    /// [`LoaderError`] if a configured file is missing.
    pub fn find(pxe: &Pxe) -> Result<Self, LoaderError> {
        let mut files: BTreeSet<_> = pxelinux::FILES.map(|(file, package)| (file.into(), package)).into();
        let common = loader(&pxe.boot, &mut files)?;
        let mut own: BTreeMap<Loader, BTreeSet<Mac>> = BTreeMap::new();
        for (mac, booting) in &pxe.machines {
            own.entry(loader(booting, &mut files)?).or_default().insert(*mac);
        }
        own.remove(&common);
        Ok(Self { common, own: own.into_iter().collect(), files })
    }

    /// Every loader in use.
    fn all(&self) -> impl Iterator<Item = &Loader> {
        std::iter::once(&self.common).chain(self.own.iter().map(|(loader, _)| loader))
    }

    /// Whether UEFI machines have something to boot.
    #[must_use]
    pub fn serves_uefi(&self) -> bool {
        self.all().any(|loader| loader.uefi.is_some())
    }

    /// Whether any machine runs iPXE.
    #[must_use]
    pub fn has_ipxe(&self) -> bool {
        self.all().any(|loader| loader.uefi.is_some() || loader.bios_is_ipxe())
    }
}

fn loader(booting: &Booting, files: &mut BTreeSet<(PathBuf, &'static str)>) -> Result<Loader, LoaderError> {
    let bios = match booting.bios {
        BiosLoader::Lpxelinux if Path::new(pxelinux::OVER_HTTP.0).exists() => {
            add(pxelinux::OVER_HTTP, files)?;
            pxelinux::LOADER
        }
        BiosLoader::Lpxelinux | BiosLoader::Pxelinux => pxelinux::OVER_TFTP,
        BiosLoader::Undionly => {
            add(ipxe::BIOS_FILE, files)?;
            ipxe::UNDIONLY
        }
    };
    if booting.local_pxelinux == LocalPxelinux::Chain {
        for file in pxelinux::CHAIN_FILES {
            add(file, files)?;
        }
    }
    let (path, package) = booting.ipxe.file();
    let uefi = if booting.ipxe == Ipxe::Snponly && !path.exists() {
        None
    } else {
        if !path.is_file() {
            return Err(LoaderError { path: path.to_owned(), package });
        }
        files.insert((path.to_owned(), package));
        path.file_name().and_then(|name| name.to_str()).map(str::to_owned)
    };
    Ok(Loader { bios, uefi })
}

fn add(
    (file, package): (&str, &'static str),
    files: &mut BTreeSet<(PathBuf, &'static str)>,
) -> Result<(), LoaderError> {
    let path = PathBuf::from(file);
    if !path.is_file() {
        return Err(LoaderError { path, package });
    }
    files.insert((path, package));
    Ok(())
}
