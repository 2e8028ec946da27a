//! extlinux (Syslinux): its files below `/boot`, and its code for the disk's first sector.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ka::disk::mbr;

use super::Setting;
use crate::disk::BootCode;
use crate::finish::error::Cause;
use crate::finish::tool;

/// The directories of extlinux's configuration and files.
const HOMES: [(&str, &str); 3] =
    [("boot/extlinux", "extlinux.conf"), ("boot/syslinux", "syslinux.cfg"), ("extlinux", "extlinux.conf")];

/// The code that starts the active partition, at the paths that distributions use.
const CODES: [&str; 4] = [
    "usr/lib/EXTLINUX/mbr.bin",
    "usr/lib/syslinux/mbr/mbr.bin",
    "usr/lib/syslinux/bios/mbr.bin",
    "usr/share/syslinux/mbr.bin",
];

/// Writes extlinux's files, and the boot sector of their file system. Returns the boot code of the disk,
/// without which that sector is never started.
pub(super) fn install(setting: &Setting<'_>) -> Result<BootCode, Cause> {
    let extlinux = tool::need(&["extlinux"])?;
    let gpt = has_gpt(setting.disk).map_err(|e| Cause::file("read", setting.disk, e))?;
    if gpt {
        let wrong = "has a GPT, from which extlinux cannot boot here: use a disk with an MBR".to_owned();
        return Err(Cause::NotBootable { path: setting.disk.to_owned(), wrong });
    }
    let home = HOMES.iter().find(|(home, file)| setting.root.join(home).join(file).is_file());
    let (home, file) = home.ok_or_else(|| Cause::NotBootable {
        path: setting.root.join(HOMES[0].0).join(HOMES[0].1),
        wrong: "is missing: extlinux has no configuration".to_owned(),
    })?;
    let home = setting.root.join(home);
    check_configuration(setting, &home.join(file))?;
    let code = boot_code(setting.root)?;
    tool::run(extlinux, &["--install", &home.to_string_lossy()])?;
    let loader = home.join("ldlinux.sys");
    if !loader.is_file() {
        let wrong = "is missing, though extlinux succeeded".to_owned();
        return Err(Cause::NotBootable { path: loader, wrong });
    }
    Ok(code)
}

fn check_configuration(setting: &Setting<'_>, path: &Path) -> Result<(), Cause> {
    let text = fs::read(path).map_err(|e| Cause::file("read back", path, e))?;
    match setting.names.golden_in(&String::from_utf8_lossy(&text)) {
        Some(golden) => {
            let wrong = format!("still names the golden node's file system {golden}");
            Err(Cause::NotBootable { path: path.to_owned(), wrong })
        }
        None => Ok(()),
    }
}

fn boot_code(root: &Path) -> Result<BootCode, Cause> {
    let path = CODES.iter().map(|code| root.join(code)).find(|code| code.is_file());
    let path = path.ok_or_else(|| Cause::MissingTool { tool: "mbr.bin of Syslinux".to_owned() })?;
    let bytes = fs::read(&path).map_err(|e| Cause::file("read", &path, e))?;
    if bytes.is_empty() || bytes.len() > mbr::BOOT_CODE {
        let wrong = format!("is not boot code: {} bytes", bytes.len());
        return Err(Cause::NotBootable { path, wrong });
    }
    let mut code = [0; mbr::BOOT_CODE];
    code.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    Ok(BootCode(code))
}

/// A GPT has one partition of type 0xee in sector 0.
fn has_gpt(disk: &Path) -> io::Result<bool> {
    let mut sector = [0; mbr::SIZE];
    File::open(disk)?.read_exact_at(&mut sector, 0)?;
    Ok([446, 462, 478, 494].into_iter().any(|entry: usize| sector.get(entry + 4) == Some(&0xee)))
}
