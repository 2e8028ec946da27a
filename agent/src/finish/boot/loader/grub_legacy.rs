//! GRUB 0.97. Its menu has already been rewritten with all other files that name file systems; here its code
//! is installed.

use super::{Setting, boot_code};
use crate::disk::{BootCode, MadeFileSystem};
use crate::finish::error::Cause;
use crate::finish::replace::{create, replace};
use crate::finish::tool;

use std::fs;

/// The menu, under the names that distributions use.
const MENUS: [&str; 2] = ["boot/grub/menu.lst", "boot/grub/grub.conf"];

/// Embeds GRUB's stages with its own shell. Returns the boot code, which is not on the disk.
pub(super) fn install(setting: &Setting<'_>) -> Result<BootCode, Cause> {
    let shell = tool::need(&["grub"])?;
    let boot = setting.names.at("/boot").or_else(|| setting.names.at("/"));
    let number = boot.and_then(|fs| fs.on.partition()).ok_or_else(|| Cause::NotBootable {
        path: setting.disk.to_owned(),
        wrong: "has no file system for /boot or / on a partition".to_owned(),
    })?;
    // GRUB counts from 0; logical partitions start at 4.
    let number = number.saturating_sub(1);
    let golden = boot.and_then(golden_number);
    for menu in MENUS.map(|menu| setting.root.join(menu)) {
        if menu.exists() {
            let old = fs::read(&menu).map_err(|e| Cause::file("read", &menu, e))?;
            let old = String::from_utf8_lossy(&old);
            let new = golden.map(|golden| with_partition(&old, golden, number)).filter(|new| *new != old);
            new.map_or(Ok(()), |new| replace(&menu, new.as_bytes()))?;
        }
    }
    check_menu(setting, number)?;
    let map = setting.root.join("boot/grub/device.map");
    let line = format!("(hd0)\t{}\n", setting.disk.display());
    if map.exists() {
        replace(&map, line.as_bytes())?;
    } else {
        create(&map, line.as_bytes())?;
    }
    // Passed as arguments of the shell, not as text of its script: a path may contain any character.
    let script = "printf 'root (hd0,%s)\\nsetup (hd0)\\nquit\\n' \"$1\" | \"$2\" --batch --no-floppy --device-map=\"$3\"";
    let (number, map) = (number.to_string(), map.display().to_string());
    boot_code::captured(setting.disk, || {
        let output = tool::output_of("sh", &["-c", script, "sh", &number, shell, &map])?;
        output.lines().for_each(|line| log::info!("{shell}: {}", line.trim_end()));
        // It always exits with success, and reports errors only by number.
        if output.contains("\nError ") || !output.contains("Running") {
            let reason = "its setup failed".to_owned();
            return Err(Cause::Tool { tool: format!("{shell} --device-map={map}"), reason, output });
        }
        Ok(())
    })
}

/// The golden partition's number, from 0.
fn golden_number(fs: &MadeFileSystem) -> Option<u32> {
    let device = fs.plan.golden.as_ref()?.devices.iter().find(|device| !device.starts_with("/dev/disk/"))?;
    let stem = device.trim_end_matches(|c: char| c.is_ascii_digit());
    device.get(stem.len()..)?.parse::<u32>().ok()?.checked_sub(1)
}

/// A command of the menu, or of Debian's options in its comments, that sets the root: `root (hd0,0)`, `#
/// groot=(hd0,0)`. Returns the position of the partition.
fn root_of(line: &str) -> Option<(&str, std::ops::Range<usize>)> {
    let bare = line.trim_start_matches(['#', ' ', '\t']);
    let end = bare.find(|c: char| c.is_whitespace() || c == '=')?;
    let command = bare.get(..end).filter(|c| matches!(*c, "root" | "rootnoverify" | "groot"))?;
    let start = line.find('(').filter(|at| *at >= line.len() - bare.len() + end)?;
    let length = line.get(start..)?.find(')')? + 1;
    Some((command, start..start + length))
}

/// The menu with this node's partition in place of the golden one.
fn with_partition(menu: &str, golden: u32, own: u32) -> String {
    let line = |line: &str| match root_of(line) {
        Some((_, range)) if line.get(range.clone()) == Some(&format!("(hd0,{golden})")) => {
            let (before, behind) = (line.get(..range.start), line.get(range.end..));
            format!("{}(hd0,{own}){}", before.unwrap_or_default(), behind.unwrap_or_default())
        }
        _ => line.to_owned(),
    };
    menu.split_inclusive('\n').map(line).collect()
}

/// The partition that the first entry uses as its root.
fn first_root(menu: &str) -> Option<&str> {
    let is_title = |line: &&str| line.split_whitespace().next() == Some("title");
    let mut lines = menu.lines().skip_while(|line| !is_title(line));
    lines.next()?;
    lines.take_while(|line| !is_title(line)).filter(|line| !line.trim_start().starts_with('#')).find_map(
        |line| {
            let (command, range) = root_of(line)?;
            if command == "root" { line.get(range) } else { None }
        },
    )
}

fn check_menu(setting: &Setting<'_>, number: u32) -> Result<(), Cause> {
    let menu = MENUS.iter().map(|menu| setting.root.join(menu)).find(|menu| menu.exists());
    let menu = menu.ok_or_else(|| Cause::NotBootable {
        path: setting.root.join(MENUS[0]),
        wrong: "is missing".to_owned(),
    })?;
    let text = fs::read(&menu).map_err(|e| Cause::file("read back", &menu, e))?;
    let text = String::from_utf8_lossy(&text);
    if let Some(root) = first_root(&text).filter(|root| *root != format!("(hd0,{number})")) {
        let wrong = format!("boots from {root} first, and this node's boot partition is (hd0,{number})");
        return Err(Cause::NotBootable { path: menu, wrong });
    }
    match setting.names.golden_in(&text) {
        Some(golden) => {
            let wrong = format!("still names the golden node's file system {golden}");
            Err(Cause::NotBootable { path: menu, wrong })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::config::names::tests::made;

    #[test]
    fn the_menu_names_this_nodes_partition() {
        assert_eq!(golden_number(&made()[1]), Some(1));
        for (old, new) in [
            ("root (hd0,1)\n", "root (hd0,4)\n"),
            ("\trootnoverify\t(hd0,1)\n", "\trootnoverify\t(hd0,4)\n"),
            ("# groot=(hd0,1)\n", "# groot=(hd0,4)\n"),
            ("root (hd0,10)\n", "root (hd0,10)\n"),
            ("root (hd1,1)\n", "root (hd1,1)\n"),
            ("title (hd0,1) root\n", "title (hd0,1) root\n"),
            ("kernel /vmlinuz root=/dev/sda2\n", "kernel /vmlinuz root=/dev/sda2\n"),
        ] {
            assert_eq!(with_partition(old, 1, 4), new);
        }
        let menu = "default 0\n# root (hd0,7)\ntitle a\n#root (hd0,6)\nroot (hd0,2)\nkernel /x\ntitle b\nroot (hd0,3)\n";
        assert_eq!(first_root(menu), Some("(hd0,2)"));
        assert_eq!(first_root("title a\nrootnoverify (hd0,2)\ntitle b\nroot (hd0,3)\n"), None);
        assert_eq!(first_root("root (hd0,1)\n"), None);
    }
}
