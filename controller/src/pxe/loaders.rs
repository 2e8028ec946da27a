//! Which boot loader each machine is given: the files, where they come from, and which of them DHCP names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ka::mac::Mac;

use super::{ipxe, pxelinux};
use crate::config::pxe::{BiosLoader, Booting, Ipxe, LocalPxelinux, Pxe};

/// There is no such boot loader.
#[derive(Debug, thiserror::Error)]
#[error("there is no {}: {}", path.display(), remedy(package))]
pub struct LoaderError {
    /// The missing file.
    pub path: PathBuf,
    /// The Debian package that has it; none if the configuration names the file.
    pub package: &'static str,
}

fn remedy(package: &str) -> String {
    match package {
        "" => "the configuration's [pxe] names it as ipxe".into(),
        package => format!("install it with `apt-get install {package}`"),
    }
}

/// What DHCP names for a machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loader {
    /// For its BIOS.
    pub bios: &'static str,
    /// For its UEFI firmware; none if there is nothing for it.
    pub uefi: Option<String>,
}

impl Loader {
    /// Whether the loader of BIOS machines is iPXE, which then asks again.
    #[must_use]
    pub fn bios_is_ipxe(&self) -> bool {
        self.bios == ipxe::UNDIONLY
    }
}

/// The loaders of all machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaders {
    /// Of every machine that has none of its own.
    pub common: Loader,
    /// Of machines that differ.
    pub own: Vec<(Loader, BTreeSet<Mac>)>,
    /// The files that are served, with the packages that have them.
    pub(super) files: BTreeSet<(PathBuf, &'static str)>,
}

impl Loaders {
    /// Looks for what the configuration wants. Without the package ipxe, UEFI machines are given nothing; without
    /// lpxelinux.0, BIOS machines load over TFTP.
    ///
    /// # Errors
    /// [`LoaderError`] for a file that the configuration names and that is not there.
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

    /// Every loader that some machine is given.
    fn all(&self) -> impl Iterator<Item = &Loader> {
        std::iter::once(&self.common).chain(self.own.iter().map(|(loader, _)| loader))
    }

    /// Whether UEFI machines find something to boot.
    #[must_use]
    pub fn serves_uefi(&self) -> bool {
        self.all().any(|loader| loader.uefi.is_some())
    }

    /// Whether some machine runs iPXE.
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
