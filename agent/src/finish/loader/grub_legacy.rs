//! GRUB 0.97. Its menu has been rewritten with all other files that name file systems; here its code goes onto the
//! disk.

use super::super::error::Cause;
use super::super::replace::{create, replace};
use super::super::tool;
use super::{Setting, boot_code};
use crate::disk::BootCode;

use std::fs;

/// The menu, under the names that distributions gave it.
const MENUS: [&str; 2] = ["boot/grub/menu.lst", "boot/grub/grub.conf"];

/// Embeds GRUB's stages by its own shell. Gives the boot code, which is not on the disk.
pub(super) fn install(setting: &Setting<'_>) -> Result<BootCode, Cause> {
    let shell = tool::need(&["grub"])?;
    let boot = setting.names.at("/boot").or_else(|| setting.names.at("/"));
    // GRUB counts from 0, logical partitions from 4.
    let number = boot.map(|fs| fs.plan.partition.saturating_sub(1)).ok_or_else(|| Cause::NotBootable {
        path: setting.disk.to_owned(),
        wrong: "has no file system for /boot or /".to_owned(),
    })?;
    check_menu(setting)?;
    let map = setting.root.join("boot/grub/device.map");
    let line = format!("(hd0)\t{}\n", setting.disk.display());
    if map.exists() {
        replace(&map, line.as_bytes())?;
    } else {
        create(&map, line.as_bytes())?;
    }
    let script = format!(
        "printf 'root (hd0,{number})\\nsetup (hd0)\\nquit\\n' | {shell} --batch --no-floppy --device-map='{}'",
        map.display()
    );
    boot_code::captured(setting.disk, || {
        let output = tool::output_of("sh", &["-c", &script])?;
        output.lines().for_each(|line| log::info!("{shell}: {}", line.trim_end()));
        // It ends well whatever happens, and tells of errors by their numbers only.
        if output.contains("\nError ") || !output.contains("Running") {
            let reason = "its setup failed".to_owned();
            return Err(Cause::Tool { tool: script.clone(), reason, output });
        }
        Ok(())
    })
}

fn check_menu(setting: &Setting<'_>) -> Result<(), Cause> {
    let menu = MENUS.iter().map(|menu| setting.root.join(menu)).find(|menu| menu.exists());
    let menu = menu.ok_or_else(|| Cause::NotBootable {
        path: setting.root.join(MENUS[0]),
        wrong: "is missing".to_owned(),
    })?;
    let text = fs::read(&menu).map_err(|e| Cause::file("read back", &menu, e))?;
    match setting.names.golden_in(&String::from_utf8_lossy(&text)) {
        Some(golden) => {
            let wrong = format!("still names the golden node's file system {golden}");
            Err(Cause::NotBootable { path: menu, wrong })
        }
        None => Ok(()),
    }
}
