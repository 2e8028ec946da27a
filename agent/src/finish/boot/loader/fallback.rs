//! The program that every firmware starts by default, and what must not be next to it.
//!
//! A shim that finds `fbx64.efi` next to itself starts that instead of GRUB. It then puts an entry of its own
//! first in the firmware's menu, before the network, and resets the machine; on firmware that keeps no
//! variables it does so for ever.

use std::fs;
use std::path::{Path, PathBuf};

use ka::arch::{EFI_SUFFIXES, THIS};

use crate::finish::error::Cause;

/// The directory that every firmware searches.
const DIRECTORY: &str = "EFI/BOOT";

/// The files that shim starts or looks for next to itself, and by which GRUB finds its menu.
const BESIDE: [&str; 3] = [THIS.efi.grub, THIS.efi.mok_manager, "grub.cfg"];

/// Removes shim's fallback program from the system partition mounted at `esp`, and makes shim start GRUB: the
/// one from the directory `vendor` if there is none next to it.
pub(super) fn quiet(esp: &Path, vendor: &Path) -> Result<(), Cause> {
    let directory = esp.join(DIRECTORY);
    let programs = find(&directory, |name| {
        let stem = name.strip_suffix(".efi").and_then(|stem| stem.strip_prefix("fb"));
        stem.is_some_and(|stem| EFI_SUFFIXES.contains(&stem))
    })?;
    if programs.is_empty() {
        return Ok(());
    }
    for name in BESIDE {
        let (there, ours) = (find(&directory, |other| other == name)?, find(vendor, |other| other == name)?);
        if let (true, Some(from)) = (there.is_empty(), ours.first()) {
            let to = directory.join(name);
            fs::copy(from, &to).map_err(|e| Cause::file("copy", from, e))?;
            log::info!("{} is {} now", to.display(), from.display());
        }
    }
    if find(&directory, |name| name == BESIDE[0])?.is_empty() {
        let path = directory.join(BESIDE[0]);
        let wrong = "is missing, and shim would start its fallback program, which puts itself first in the firmware's menu";
        return Err(Cause::NotBootable { path, wrong: wrong.to_owned() });
    }
    for program in programs {
        fs::remove_file(&program).map_err(|e| Cause::file("remove", &program, e))?;
        log::info!("{}: removed, it would put itself first in the firmware's menu", program.display());
    }
    Ok(())
}

/// The files of a directory with matching names, in lower case: FAT is case-insensitive.
fn find(directory: &Path, fits: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, Cause> {
    let entries = match fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Cause::file("list", directory, e)),
    };
    let fitting = entries
        .into_iter()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| fits(&name.to_ascii_lowercase())));
    Ok(fitting.map(|entry| entry.path()).filter(|path| path.is_file()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shim_starts_grub_and_no_program_that_resets() {
        let esp = tempfile::tempdir().unwrap();
        let vendor = esp.path().join("EFI/redhat");
        let put = |path: &str, text: &str| {
            let path = esp.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let quiet = || quiet(esp.path(), &vendor);
        quiet().unwrap();
        put("EFI/BOOT/BOOTX64.EFI", "MZshim");
        put("EFI/BOOT/FBX64.EFI", "MZfb");
        put("EFI/redhat/shimx64.efi", "MZshim");
        let error = quiet().unwrap_err().to_string();
        assert!(error.contains("grubx64.efi is missing"), "{error}");
        assert!(esp.path().join("EFI/BOOT/FBX64.EFI").exists());
        put("EFI/redhat/grubx64.efi", "MZgrub");
        put("EFI/redhat/grub.cfg", "menu");
        put("EFI/redhat/BOOTX64.CSV", "list");
        quiet().unwrap();
        quiet().unwrap();
        let mut left: Vec<_> = fs::read_dir(esp.path().join("EFI/BOOT"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["BOOTX64.EFI", "grub.cfg", "grubx64.efi"]);
        // The site's own program with such a name.
        put("EFI/BOOT/fbsd.efi", "MZ");
        quiet().unwrap();
        assert!(esp.path().join("EFI/BOOT/fbsd.efi").exists());
    }
}
