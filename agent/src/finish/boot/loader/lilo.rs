//! LILO: its configuration is rewritten for this node's disks, and its map is recreated.
//!
//! LILO's boot sector contains the places of the map's blocks on this very disk, so nothing of the golden
//! node's is usable. lilo.conf(5) documents the options.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Setting, boot_code};
use crate::disk::BootCode;
use crate::finish::config::names::{Named, Names};
use crate::finish::config::references::on_command_line;
use crate::finish::error::Cause;
use crate::finish::replace::replace;
use crate::finish::tool;

const CONFIGURATION: &str = "etc/lilo.conf";

/// The offset of the loader's name in the boot sector.
const NAME: std::ops::Range<usize> = 6..10;

/// Rewrites the configuration and runs `lilo -v`. Returns the boot code, which is not on the disk; `None` if
/// LILO is in a partition's sector, which other boot code starts.
pub(super) fn install(setting: &Setting<'_>) -> Result<Option<BootCode>, Cause> {
    let lilo = tool::need(&["lilo"])?;
    let path = setting.root.join(CONFIGURATION);
    let old = fs::read_to_string(&path).map_err(|e| Cause::file("read", &path, e))?;
    let new = rewrite(&old, setting.disk, setting.names);
    if new != old {
        replace(&path, new.as_bytes())?;
    }
    let target = value_of(&new, "boot").map(Path::new);
    if let Some(wrong) = foreign(target, value_of(&new, "raid-extra-boot"), setting.disk, setting.names) {
        return Err(Cause::NotBootable { path, wrong });
    }
    if target.is_none_or(|target| target == setting.disk) {
        let code = boot_code::captured(setting.disk, || tool::run(lilo, &["-v"]))?;
        return if code.0.get(NAME) == Some(b"LILO") {
            Ok(Some(code))
        } else {
            let wrong = "has boot code that is not LILO's, though lilo succeeded".to_owned();
            Err(Cause::NotBootable { path: setting.disk.to_owned(), wrong })
        };
    }
    let partition = target.unwrap_or(setting.disk);
    rustix::fs::sync();
    tool::run(lilo, &["-v"])?;
    let mut sector = [0; 16];
    read(partition, &mut sector).map_err(|e| Cause::file("read back", partition, e))?;
    if sector.get(NAME) != Some(b"LILO") {
        let wrong = "has no boot code of LILO, though lilo succeeded".to_owned();
        return Err(Cause::NotBootable { path: partition.to_owned(), wrong });
    }
    warning!("LILO is in {}: boot code of the disk (-m, -M) must start it", partition.display());
    Ok(None)
}

/// What LILO would write to but must not: a disk without any part of the copied system may belong to anyone.
fn foreign(target: Option<&Path>, extra: Option<&str>, disk: &Path, names: &Names<'_>) -> Option<String> {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let is_ours = |path: &Path| {
        let path = real(path);
        path == real(disk) || names.made().iter().any(|fs| path == real(&fs.device))
    };
    match (target, extra) {
        (Some(target), _) if !is_ours(target) => Some(format!(
            "has boot={}, which is neither this node's disk nor a partition of the copied system",
            target.display()
        )),
        (_, Some(extra)) if !matches!(extra, "none" | "mbr-only") => {
            Some(format!("has raid-extra-boot={extra}: disks that are not this run's"))
        }
        _ => None,
    }
}

fn read(device: &Path, bytes: &mut [u8]) -> io::Result<()> {
    File::open(device)?.read_exact_at(bytes, 0)
}

/// The value of a global option.
fn value_of<'a>(text: &'a str, option: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, range) = option_of(line)?;
        if key == option { line.get(range) } else { None }
    })
}

/// `text` with this node's disk and partitions.
fn rewrite(text: &str, disk: &Path, names: &Names<'_>) -> String {
    text.split_inclusive('\n').map(|line| rewrite_line(line, disk, names)).collect()
}

fn rewrite_line(line: &str, disk: &Path, names: &Names<'_>) -> String {
    let Some((key, range)) = option_of(line) else { return line.to_owned() };
    let value = line.get(range.clone()).unwrap_or_default();
    let new = match key {
        "append" | "addappend" | "literal" => on_command_line(value, names),
        "boot" | "root" | "disk" | "other" | "table" | "raid-extra-boot" => device(value, disk, names),
        _ => return line.to_owned(),
    };
    let (before, after) = (line.get(..range.start), line.get(range.end..));
    format!("{}{new}{}", before.unwrap_or_default(), after.unwrap_or_default())
}

/// The node's device in place of the golden one, in the same form: an old LILO knows only device nodes.
fn device(value: &str, disk: &Path, names: &Names<'_>) -> String {
    if names.is_golden_disk(value) {
        return disk.display().to_string();
    }
    match names.resolve(value) {
        Named::Made(fs) if value.starts_with('/') => fs.device.display().to_string(),
        Named::Made(fs) if value.starts_with("UUID") => format!("UUID={}", fs.uuid),
        Named::Made(fs) => format!("PARTUUID={}", fs.partuuid),
        Named::Missing => {
            warning!("lilo.conf: {value} is a disk that this node does not have");
            value.to_owned()
        }
        Named::Kept | Named::Other => value.to_owned(),
    }
}

/// The name of a line's option, and the position of its value, without quotes.
fn option_of(line: &str) -> Option<(&str, std::ops::Range<usize>)> {
    let (key, value) = line.split_once('=')?;
    let start = line.len() - value.len() + (value.len() - value.trim_start().len());
    let rest = line.get(start..)?;
    let range = match rest.strip_prefix('"') {
        Some(quoted) => start + 1..start + 1 + quoted.find('"')?,
        None => start..start + rest.find(|c: char| c.is_whitespace() || c == '#').unwrap_or(rest.len()),
    };
    let key = key.trim();
    (!key.starts_with('#') && !key.is_empty()).then_some((key, range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::config::names::tests::{ROOT, SWAP, made};

    #[test]
    fn the_configuration_names_this_nodes_disks() {
        let made = made();
        let names = Names::new(&made);
        for (old, new) in [
            ("boot=/dev/sda\n", "boot=/dev/vda\n".to_owned()),
            ("boot = /dev/disk/by-id/ata-GOLD # all\n", "boot = /dev/vda # all\n".to_owned()),
            ("boot=/dev/sda1\n", "boot=/dev/vda1\n".to_owned()),
            ("  root=/dev/sda1\n", "  root=/dev/vda1\n".to_owned()),
            ("root = \"UUID=00000001-0000-4000-8000-000000000000\"\n", format!("root = \"UUID={ROOT}\"\n")),
            ("root=\"LABEL=system\"\n", "root=\"LABEL=system\"\n".to_owned()),
            ("root=current\n", "root=current\n".to_owned()),
            (
                "\tappend=\"quiet resume=/dev/sda2 root=/dev/sda1\"\n",
                format!("\tappend=\"quiet resume=UUID={SWAP} root=UUID={ROOT}\"\n"),
            ),
            ("disk=/dev/sda bios=0x80\n", "disk=/dev/vda bios=0x80\n".to_owned()),
            ("other=/dev/sda2\n", "other=/dev/vda2\n".to_owned()),
            ("# boot=/dev/sda\n", "# boot=/dev/sda\n".to_owned()),
            ("image=/boot/vmlinuz\n", "image=/boot/vmlinuz\n".to_owned()),
            ("read-only\n", "read-only\n".to_owned()),
            ("other=/dev/sdb1\n", "other=/dev/sdb1\n".to_owned()),
            ("append=\"unfinished\n", "append=\"unfinished\n".to_owned()),
        ] {
            assert_eq!(rewrite(old, Path::new("/dev/vda"), &names), new, "{old}");
        }
        assert_eq!(value_of("#boot=x\nlba32\nboot = \"/dev/vda\"\n", "boot"), Some("/dev/vda"));
        assert_eq!(value_of("lba32\n", "boot"), None);
    }

    #[test]
    fn no_disk_of_somebody_elses_is_written() {
        let made = made();
        let names = Names::new(&made);
        for (boot, extra, ours) in [
            (None, None, true),
            (Some("/dev/vda"), Some("mbr-only"), true),
            (Some("/dev/vda1"), Some("none"), true),
            (Some("/dev/sda"), None, false),
            (Some("/dev/vda3"), None, false),
            (Some("UUID=1"), None, false),
            (Some("/dev/vda"), Some("/dev/sda,/dev/sdb"), false),
            (None, Some("auto"), false),
        ] {
            let wrong = foreign(boot.map(Path::new), extra, Path::new("/dev/vda"), &names);
            assert_eq!(wrong.is_none(), ours, "{boot:?} {extra:?}: {wrong:?}");
        }
    }
}
