//! GRUB 2 for UEFI: files on the EFI system partition, under the distribution's name and on the fallback
//! path, and an entry in the firmware's menu.
//!
//! Where the distribution ships a complete and signed GRUB (`grub2-install` refuses UEFI there), the files
//! came with the copy, and only their configuration and the entry are specific to this node.

use std::fs;
use std::path::{Path, PathBuf};

use super::{FALLBACK, Setting, fallback, grub, register, system_partition};
use crate::finish::config::names::Names;
use crate::finish::error::Cause;
use crate::finish::esp;
use crate::finish::tool;
use ka::arch::{Grub, THIS};
use ka_host::system::glob;

/// Where GRUB's modules are if `grub2-install` is to use them (SUSE). Fedora's grub2-install refuses UEFI,
/// and its modules are elsewhere.
const GRUB2_HOMES: [&str; 2] = ["usr/lib/grub2", "usr/share/grub2"];

/// The programs that an entry may start, in order of preference: a signed shim starts GRUB by itself.
const PROGRAMS: [&str; 2] = [THIS.efi.shim, THIS.efi.grub];

/// Installs GRUB on the system partition and in the firmware's menu.
pub(super) fn install(setting: &Setting<'_>) -> Result<(), Cause> {
    let (esp, at) = system_partition(setting)?;
    let mounted = setting.root.join(at.trim_start_matches('/'));
    match tool::find(&["grub-install"]) {
        Some(install) => {
            if !THIS.grub_uefi.modules().iter().any(|file| setting.root.join(file).exists()) {
                let tool = format!("GRUB for UEFI ({})", THIS.grub_uefi.package);
                return Err(Cause::MissingTool { tool });
            }
            grub::forget_stale_map(&setting.root.join("boot/grub/device.map"))?;
            run_installer(install, at, &vendor(setting.root, &mounted)?)?;
            grub::write_menu(setting, &setting.root.join("boot/grub/grub.cfg"))?;
        }
        None => {
            tool::need(&["grub2-mkconfig", "grub-mkconfig"])?;
            let vendor = vendor(setting.root, &mounted)?;
            match grub2_installer(setting.root, &mounted.join("EFI").join(&vendor)) {
                Some(install) => {
                    grub::forget_stale_map(&setting.root.join("boot/grub2/device.map"))?;
                    run_installer(install, at, &vendor)?;
                }
                None => copy_to_fallback(&mounted.join("EFI").join(&vendor), &mounted)?,
            }
            grub::write_menu(setting, &menu(setting.root))?;
        }
    }
    check_configurations(setting, &mounted)?;
    let vendor = vendor(setting.root, &mounted)?;
    fallback::quiet(&mounted, &mounted.join("EFI").join(&vendor))?;
    let file = format!("EFI/{vendor}/{}", program(&mounted.join("EFI").join(&vendor))?);
    for file in [file.as_str(), FALLBACK] {
        check_program(&mounted.join(file), setting.names)?;
    }
    register(setting, &vendor, esp, &file, true)
}

/// Creates GRUB's program under the vendor's name and on the fallback path.
fn run_installer(install: &str, at: &str, vendor: &str) -> Result<(), Cause> {
    let place = format!("--efi-directory={at}");
    let id = format!("--bootloader-id={vendor}");
    let target = format!("--target={}", THIS.grub_uefi.target);
    tool::run(install, &[&target, &place, &id, "--no-nvram"])?;
    tool::run(install, &[&target, &place, "--removable", "--no-nvram"])
}

/// `grub2-install`, if it creates programs for UEFI: its modules are at the place that only such
/// distributions use, and there is no signed shim, which would not start the result.
fn grub2_installer(root: &Path, vendor: &Path) -> Option<&'static str> {
    let Grub { target, core, .. } = THIS.grub_uefi;
    let able = GRUB2_HOMES.iter().any(|home| root.join(home).join(target).join(core).exists());
    tool::find(&["grub2-install"]).filter(|_| able && !vendor.join(PROGRAMS[0]).exists())
}

/// The distribution's directory below `EFI`: where its GRUB already is, else its name.
fn vendor(root: &Path, esp: &Path) -> Result<String, Cause> {
    let release = root.join("etc/os-release");
    let text = fs::read_to_string(&release).unwrap_or_default();
    let id = text.lines().find_map(|line| line.strip_prefix("ID=")).unwrap_or("linux");
    let id = id.trim_matches(['"', '\'']).to_owned();
    let mut found = Vec::new();
    for name in PROGRAMS {
        for path in glob::files(esp, &format!("EFI/*/{name}"))? {
            let directory = path.parent().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
            found.extend(directory.filter(|name| !name.eq_ignore_ascii_case("BOOT")));
        }
    }
    if found.is_empty() || found.contains(&id) {
        return Ok(id);
    }
    Ok(found.swap_remove(0))
}

fn program(vendor: &Path) -> Result<&'static str, Cause> {
    PROGRAMS.into_iter().find(|name| vendor.join(name).is_file()).ok_or_else(|| Cause::NotBootable {
        path: vendor.to_owned(),
        wrong: format!("holds neither {}", PROGRAMS.join(" nor ")),
    })
}

/// Where this distribution's GRUB looks for its menu.
fn menu(root: &Path) -> PathBuf {
    let link = root.join("etc/grub2-efi.cfg");
    fs::canonicalize(link).unwrap_or_else(|_| root.join("boot/grub2/grub.cfg"))
}

/// Copies the vendor's programs to the fallback path, unless the distribution did so.
fn copy_to_fallback(vendor: &Path, esp: &Path) -> Result<(), Cause> {
    let fallback = esp.join(FALLBACK);
    if fallback.exists() {
        return Ok(());
    }
    let directory = fallback.parent().unwrap_or(esp);
    fs::create_dir_all(directory).map_err(|e| Cause::file("make", directory, e))?;
    let copy =
        |from: &Path, to: &Path| fs::copy(from, to).map(drop).map_err(|e| Cause::file("copy", from, e));
    copy(&vendor.join(program(vendor)?), &fallback)?;
    // The program that shim starts, and the configuration by which it finds its menu.
    for name in [THIS.efi.grub, THIS.efi.mok_manager, "grub.cfg"] {
        if vendor.join(name).is_file() {
            copy(&vendor.join(name), &directory.join(name))?;
        }
    }
    Ok(())
}

/// A program for this firmware begins like every Windows program (PE/COFF). The configuration that
/// `grub-install` may have built into it names the place of its menu.
fn check_program(path: &Path, names: &Names<'_>) -> Result<(), Cause> {
    let bytes = fs::read(path).map_err(|e| Cause::file("read back", path, e))?;
    let text = String::from_utf8_lossy(&bytes);
    let wrong = if !bytes.starts_with(b"MZ") {
        "is not a UEFI program".to_owned()
    } else if let Some(golden) = names.golden_in(&text) {
        format!(
            "has the golden node's file system {golden} built in, and the copied system has no grub-install that \
             recreates it"
        )
    } else if text.contains(esp::HELD) {
        format!("looks for its files in {}, which is gone when the node boots", esp::HELD)
    } else {
        return Ok(());
    };
    Err(Cause::NotBootable { path: path.to_owned(), wrong })
}

/// GRUB's first configuration, on the partition, names the file system with its menu.
fn check_configurations(setting: &Setting<'_>, esp: &Path) -> Result<(), Cause> {
    for path in glob::files(esp, "EFI/*/grub.cfg")? {
        let text = fs::read(&path).map_err(|e| Cause::file("read back", &path, e))?;
        if let Some(golden) = setting.names.golden_in(&String::from_utf8_lossy(&text)) {
            let wrong = format!("still names the golden node's file system {golden}");
            return Err(Cause::NotBootable { path, wrong });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::config::names::tests::made;

    fn put(root: &Path, path: &str, bytes: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn the_vendors_directory_is_the_one_that_is_there() {
        let root = tempfile::tempdir().unwrap();
        let esp = root.path().join("boot/efi");
        let vendor = || vendor(root.path(), &esp).unwrap();
        assert_eq!(vendor(), "linux");
        put(root.path(), "etc/os-release", "NAME=x\nID=\"debian\"\n");
        assert_eq!(vendor(), "debian");
        put(&esp, "EFI/BOOT/grubx64.efi", "MZ");
        put(&esp, "EFI/Microsoft/bootmgfw.efi", "MZ");
        assert_eq!(vendor(), "debian");
        put(&esp, "EFI/cluster/grubx64.efi", "MZ");
        assert_eq!(vendor(), "cluster");
        put(&esp, "EFI/debian/shimx64.efi", "MZ");
        assert_eq!(vendor(), "debian");
    }

    #[test]
    fn a_signed_loader_is_put_where_every_firmware_looks() {
        let esp = tempfile::tempdir().unwrap();
        put(esp.path(), "EFI/fedora/shimx64.efi", "MZshim");
        put(esp.path(), "EFI/fedora/grubx64.efi", "MZgrub");
        copy_to_fallback(&esp.path().join("EFI/fedora"), esp.path()).unwrap();
        assert_eq!(fs::read_to_string(esp.path().join(FALLBACK)).unwrap(), "MZshim");
        assert_eq!(fs::read_to_string(esp.path().join("EFI/BOOT/grubx64.efi")).unwrap(), "MZgrub");
    }

    #[test]
    fn a_program_must_be_one_and_this_nodes() {
        let esp = tempfile::tempdir().unwrap();
        let made = made();
        for (bytes, wrong) in [
            ("MZ\0search.fs_uuid 11111111-aaaa-4aaa-8aaa-111111111111 root\0", None),
            ("ELF", Some("is not a UEFI program")),
            ("MZ\0\0search.fs_uuid 00000001-0000-4000-8000-000000000000 root\0", Some("built in")),
            ("MZ\0(,gpt1)/KA-HELD/grub\0", Some("KA-HELD")),
        ] {
            put(esp.path(), "x", bytes);
            let checked = check_program(&esp.path().join("x"), &Names::new(&made)).map_err(|e| e.to_string());
            match wrong {
                None => checked.unwrap(),
                Some(wrong) => assert!(checked.unwrap_err().contains(wrong), "{bytes}"),
            }
        }
    }
}
