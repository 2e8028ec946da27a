//! systemd-boot: its program on the EFI system partition, which `bootctl` puts there or the copy has brought, its
//! entries, and one in the firmware's menu.

use std::fs;
use std::path::Path;

use super::super::error::Cause;
use super::super::glob;
use super::super::tool;
use super::{Setting, register, system_partition};

const PROGRAM: &str = "EFI/systemd/systemd-bootx64.efi";
const FALLBACK: &str = "EFI/BOOT/BOOTX64.EFI";
const LABEL: &str = "Linux Boot Manager";

/// Where a system without a separate partition for kernels keeps its entries, and where one with it does.
const ENTRIES: [&str; 2] = ["loader/entries/*.conf", "EFI/Linux/*.efi"];

/// Installs systemd-boot on the system partition and in the firmware's menu.
pub(super) fn install(setting: &Setting<'_>) -> Result<(), Cause> {
    let (esp, at) = system_partition(setting)?;
    let mounted = setting.root.join(at.trim_start_matches('/'));
    if let Some(bootctl) = tool::find(&["bootctl"]) {
        // The firmware's menu is ours, and a check by udev's database knows nothing of this disk.
        let place = format!("--esp-path={at}");
        let relaxed = [("SYSTEMD_RELAX_ESP_CHECKS", "1")];
        tool::run_with(bootctl, &[&place, "--no-variables", "install"], &relaxed)?;
    }
    let program = mounted.join(PROGRAM);
    let bytes = fs::read(&program).map_err(|e| Cause::file("read back", &program, e))?;
    if !bytes.starts_with(b"MZ") {
        let wrong = "is no program for UEFI".to_owned();
        return Err(Cause::NotBootable { path: program, wrong });
    }
    let fallback = mounted.join(FALLBACK);
    if !fallback.exists() {
        let directory = fallback.parent().unwrap_or(&mounted);
        fs::create_dir_all(directory).map_err(|e| Cause::file("make", directory, e))?;
        fs::write(&fallback, &bytes).map_err(|e| Cause::file("write", &fallback, e))?;
    }
    check_entries(setting, &mounted)?;
    register(setting, LABEL, esp, PROGRAM)
}

/// There must be something to boot, and nothing of it may be the golden node's: a unified kernel image has its
/// command line inside.
fn check_entries(setting: &Setting<'_>, esp: &Path) -> Result<(), Cause> {
    let mut found = 0;
    for top in [esp, &setting.root.join("boot")] {
        for pattern in ENTRIES {
            for path in glob::files(top, pattern)? {
                let bytes = fs::read(&path).map_err(|e| Cause::file("read back", &path, e))?;
                if let Some(golden) = setting.names.golden_in(&String::from_utf8_lossy(&bytes)) {
                    let wrong = format!("still names the golden node's file system {golden}");
                    return Err(Cause::NotBootable { path, wrong });
                }
                found += 1;
            }
        }
    }
    if found > 0 {
        return Ok(());
    }
    let wrong = "holds no entry and no unified kernel image to boot".to_owned();
    Err(Cause::NotBootable { path: esp.to_owned(), wrong })
}
