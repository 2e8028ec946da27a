//! systemd units written by a site: for mounts, for swap, and those that wait for a device.
//!
//! A swap unit is named after its device, and systemd ignores one whose name and `What=` differ. So a unit
//! file is renamed together with the device in it, and so are the links that enable it, its drop-ins, and
//! references in other units.

use std::fs;
use std::path::{Path, PathBuf};

use super::words::{pieces, rewrite_devices};
use crate::finish::config::encoded;
use crate::finish::config::names::{Named, Names};
use crate::finish::config::options;
use crate::finish::error::Cause;
use crate::finish::replace::replace;

/// The directories of a site's units.
const DIRECTORIES: [&str; 2] = ["etc/systemd/system", "usr/local/lib/systemd/system"];

/// The suffixes of directories that belong to a unit.
const BESIDE: [&str; 4] = [".d", ".wants", ".requires", ".upholds"];

/// The suffix of a disabled unit file, for a disk that this node does not have: systemd does not read it.
const LEFT_OUT: &str = ".ka-no-such-disk";

/// The maximum depth of units: in a directory that belongs to a unit.
const DEEPEST: usize = 3;

/// Rewrites and renames the units below `root`.
pub(super) fn write(root: &Path, names: &Names<'_>) -> Result<(), Cause> {
    for directory in DIRECTORIES {
        let top = root.join(directory);
        let (mut files, mut all) = (Vec::new(), Vec::new());
        collect(&top, DEEPEST, &mut files, &mut all)?;
        for file in &files {
            let bytes = fs::read(file).map_err(|e| Cause::file("read", file, e))?;
            let Ok(old) = String::from_utf8(bytes) else { continue };
            let new = rewrite(&old, names);
            if new != old {
                log::info!("{}: names this node now", file.display());
                replace(file, new.as_bytes())?;
            }
        }
        // Contents first, since the directory may be renamed.
        for path in all.iter().rev() {
            rename(path, names)?;
        }
    }
    Ok(())
}

/// The regular files below a directory, and all entries, outer ones first.
fn collect(
    directory: &Path,
    deepest: usize,
    files: &mut Vec<PathBuf>,
    all: &mut Vec<PathBuf>,
) -> Result<(), Cause> {
    if directory.is_symlink() || !directory.is_dir() {
        return Ok(());
    }
    let failed = |e| Cause::file("list", directory, e);
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut paths: Vec<PathBuf> = entries.map_err(failed)?.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let kind = fs::symlink_metadata(&path).map_err(|e| Cause::file("look at", &path, e))?;
        all.push(path.clone());
        if kind.is_dir() && deepest > 1 {
            collect(&path, deepest - 1, files, all)?;
        } else if kind.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

/// A unit's text for this node.
fn rewrite(text: &str, names: &Names<'_>) -> String {
    let what = value(text, "What").unwrap_or_default();
    let place = value(text, "Where").unwrap_or_default();
    let fs = match names.resolve(what) {
        Named::Made(fs) => Some(fs),
        Named::Missing => names.at(place),
        _ => names.labelled(what),
    };
    let lines = text.split_inclusive('\n').map(|line| {
        if line.trim_start().starts_with(['#', ';']) {
            return line.to_owned();
        }
        let (key, rest) = line.split_once('=').unwrap_or(("", line));
        match key.trim() {
            "Options" => {
                let old = rest.trim();
                options::rewrite(old, fs, place, names)
                    .map_or_else(|| line.to_owned(), |new| line.replacen(old, &new, 1))
            }
            // Whatever its name was, the device that systemd mounts there is the cloned one.
            "What" if names.resolve(what) == Named::Missing => match fs {
                Some(fs) => line.replacen(what, &names.new_path(what, fs), 1),
                None => line.to_owned(),
            },
            "What" if what.starts_with("PARTLABEL=") || what.starts_with("ID=") => match fs {
                Some(fs) => line.replacen(what, &names.new_path(what, fs), 1),
                None => line.to_owned(),
            },
            _ => with_units(&rewrite_devices(line, names), names),
        }
    });
    lines.collect()
}

/// A line with the names of units replaced by this node's.
fn with_units(line: &str, names: &Names<'_>) -> String {
    let renamed = |piece: &str| {
        let (key, value) = piece.split_once('=').map_or(("", piece), |(key, value)| (key, value));
        let new = names.rename_unit(value)?;
        Some(if key.is_empty() && !piece.starts_with('=') { new } else { format!("{key}={new}") })
    };
    pieces(line).map(|piece| renamed(piece).unwrap_or_else(|| piece.to_owned())).collect()
}

/// The last value of a key, which is the effective one.
fn value<'a>(text: &'a str, wanted: &str) -> Option<&'a str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.rfind(|(key, _)| key.trim() == wanted).map(|(_, value)| value.trim())
}

/// Renames a unit's file, link or directory to match its contents.
fn rename(path: &Path, names: &Names<'_>) -> Result<(), Cause> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    let stem = BESIDE.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    let suffix = name.get(stem.len()..).unwrap_or_default();
    let is_link = path.is_symlink();
    if is_link {
        return rename_link(path, name, names);
    }
    if name.ends_with(".swap") && path.is_file() {
        let bytes = fs::read(path).map_err(|e| Cause::file("read", path, e))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let what = value(&text, "What").unwrap_or_default();
        return match (names.resolve(what), unit_of_swap(what)) {
            (Named::Missing, _) => {
                warning!("{}: left out, this node has no {what}", path.display());
                give(path, &format!("{name}{LEFT_OUT}"))
            }
            (_, Some(unit)) if unit != name => give(path, &unit),
            _ => Ok(()),
        };
    }
    match names.rename_unit(stem) {
        Some(new) => give(path, &format!("{new}{suffix}")),
        None => Ok(()),
    }
}

/// A link enables a unit, or is an alias of it.
fn rename_link(path: &Path, name: &str, names: &Names<'_>) -> Result<(), Cause> {
    let target = fs::read_link(path).map_err(|e| Cause::file("follow", path, e))?;
    let target_name = target.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.ends_with(".swap") && names.unit(name) == Named::Missing {
        warning!("{}: removed, this node has no such disk", path.display());
        return fs::remove_file(path).map_err(|e| Cause::file("remove", path, e));
    }
    let new_target = names.rename_unit(target_name).map(|new| target.with_file_name(new));
    let new_name = names.rename_unit(name);
    if new_target.is_none() && new_name.is_none() {
        return Ok(());
    }
    let new = path.with_file_name(new_name.as_deref().unwrap_or(name));
    fs::remove_file(path).map_err(|e| Cause::file("remove", path, e))?;
    std::os::unix::fs::symlink(new_target.unwrap_or(target), &new)
        .map_err(|e| Cause::file("make", &new, e))?;
    log::info!("{} is {} now", path.display(), new.display());
    Ok(())
}

/// The unit name that systemd requires for this swap space.
fn unit_of_swap(what: &str) -> Option<String> {
    let path = match what.split_once('=') {
        Some((tag @ ("UUID" | "PARTUUID" | "LABEL" | "PARTLABEL"), value)) => {
            let value = value.trim_matches(['"', '\'']);
            format!("/dev/disk/by-{}/{}", tag.to_ascii_lowercase(), encoded::udev(value))
        }
        // A swap file's unit is named after the file, whose path is unchanged.
        _ => what.starts_with("/dev/").then(|| encoded::decode(what))?,
    };
    Some(format!("{}.swap", encoded::unit(&path)))
}

fn give(path: &Path, name: &str) -> Result<(), Cause> {
    let new = path.with_file_name(name);
    fs::rename(path, &new).map_err(|e| Cause::file("rename", path, e))?;
    log::info!("{} is {} now", path.display(), new.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::config::names::tests::{ROOT, SWAP, made};

    #[test]
    fn a_swap_unit_has_the_name_that_fits_its_device() {
        let root = tempfile::tempdir().unwrap();
        let units = root.path().join(DIRECTORIES[0]);
        let put = |name: &str, text: &str| {
            let path = units.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let link = |name: &str, to: &str| {
            let path = units.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(to, path).unwrap();
        };
        put("dev-sda2.swap", "[Swap]\nWhat=/dev/sda2\n[Install]\nWantedBy=swap.target\n");
        put("dev-sda2.swap.d/more.conf", "[Swap]\nPriority=5\n");
        link("swap.target.wants/dev-sda2.swap", "/etc/systemd/system/dev-sda2.swap");
        let golden = r"dev-disk-by\x2duuid-00000001\x2d0000\x2d4000\x2d8000\x2d000000000000.device";
        put(
            "app.service",
            &format!(
                "[Unit]\nRequires={golden} ssh.service\nAfter={golden} dev-sda2.swap\n[Service]\nExecStart=/bin/true\n"
            ),
        );
        put(&format!("{golden}.d/timeout.conf"), "[Unit]\nJobTimeoutSec=5\n");
        put("srv.mount", "[Mount]\nWhat=PARTLABEL=Linux part 1\nWhere=/srv\nOptions=subvolid=5,noatime\n");
        put("dev-sdz9.swap", "[Swap]\nWhat=/dev/sdz9\n");
        link("swap.target.wants/dev-sdz9.swap", "../dev-sdz9.swap");
        put("swapfile.swap", "[Swap]\nWhat=/swapfile\n");

        let made = made();
        write(root.path(), &Names::new(&made)).unwrap();
        write(root.path(), &Names::new(&made)).unwrap();

        let escaped = |uuid: &str| uuid.replace('-', r"\x2d");
        let swap = format!(r"dev-disk-by\x2duuid-{}.swap", escaped(SWAP));
        let device = format!(r"dev-disk-by\x2duuid-{}.device", escaped(ROOT));
        let read = |name: &str| fs::read_to_string(units.join(name)).unwrap();
        assert!(read(&swap).contains(&format!("What=/dev/disk/by-uuid/{SWAP}\n")));
        assert_eq!(read(&format!("{swap}.d/more.conf")), "[Swap]\nPriority=5\n");
        let link = fs::read_link(units.join("swap.target.wants").join(&swap)).unwrap();
        assert_eq!(link, Path::new("/etc/systemd/system").join(&swap));
        assert!(
            read("app.service").contains(&format!("Requires={device} ssh.service\nAfter={device} {swap}\n"))
        );
        assert_eq!(read(&format!("{device}.d/timeout.conf")), "[Unit]\nJobTimeoutSec=5\n");
        assert!(
            read("srv.mount").contains(&format!("What=/dev/disk/by-uuid/{ROOT}\n")),
            "{}",
            read("srv.mount")
        );
        assert!(read(&format!("dev-sdz9.swap{LEFT_OUT}")).contains("/dev/sdz9"));
        assert!(units.join("swapfile.swap").exists());
        let mut left: Vec<_> = fs::read_dir(units.join("swap.target.wants")).unwrap().collect();
        assert_eq!(left.pop().unwrap().unwrap().file_name().to_str(), Some(swap.as_str()));
        assert!(left.is_empty(), "what is not here is enabled no more");
    }
}
