//! What is on the disks, as blkid(8) sees it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use ka::inventory::{Content, Disk};

use super::disks::{partitions, size};
use super::{Tree, told};
use crate::tool::{self, End};

/// How long blkid may look at one device: a bad one must not keep the node from joining.
const LIMIT: Duration = Duration::from_secs(60);

/// blkid's status for "nothing found".
const NOTHING: i32 = 2;

/// Fills in table and contents of every disk. Without blkid they stay empty, which is logged.
pub(super) fn fill_in(disks: &mut [Disk], tree: &Tree) {
    for disk in disks {
        if let Err(e) = look(disk, tree) {
            log::info!("no blkid here ({e}): what is on the disks stays unknown");
            return;
        }
    }
}

/// Fails only if there is no blkid.
fn look(disk: &mut Disk, tree: &Tree) -> io::Result<()> {
    let folder = tree.sys.join("block").join(&disk.name);
    let whole = found_on(&disk.name)?;
    disk.table = whole.get("PTTYPE").cloned();
    let mut contents = Vec::new();
    // A disk with a file system on the whole of it, or a member of an array.
    if whole.contains_key("TYPE") {
        contents.push(content(&disk.name, disk.size, &whole));
    }
    for partition in partitions(&folder) {
        let found = found_on(&partition)?;
        contents.push(content(&partition, size(&folder.join(&partition)).unwrap_or(0), &found));
    }
    disk.contents = contents;
    Ok(())
}

/// A device that can't be read, or that carries signatures of two kinds, hides nothing of the others.
fn found_on(name: &str) -> io::Result<HashMap<String, String>> {
    match probe(name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            log::warn!("blkid on {name}: {e}; what is on it stays unknown");
            Ok(HashMap::new())
        }
        outcome => outcome,
    }
}

fn content(device: &str, size: u64, found: &HashMap<String, String>) -> Content {
    Content {
        device: device.to_owned(),
        size,
        kind: found.get("TYPE").cloned(),
        label: found.get("LABEL").map(|label| told(label)).filter(|label| !label.is_empty()),
    }
}

/// What a low-level probe finds, by its tag.
fn probe(name: &str) -> io::Result<HashMap<String, String>> {
    let node = format!("/dev/{}", name.replace('!', "/"));
    // blkid has one status for a device with nothing on it and for one that can't be opened.
    File::open(&node).map_err(io::Error::other)?;
    let mut blkid = Command::new("blkid");
    blkid.args(["-p", "-o", "export", &node]).stdin(Stdio::null());
    let output = tool::output(&mut blkid, LIMIT)?;
    match output.end {
        End::Exited(status) if status.success() => Ok(tags(&String::from_utf8_lossy(&output.stdout))),
        End::Exited(status) if status.code() == Some(NOTHING) => Ok(HashMap::new()),
        _ => {
            let said = told(&String::from_utf8_lossy(&output.stderr));
            Err(io::Error::other(format!("{}: {said}", output.end)))
        }
    }
}

/// `KEY=value` lines, in which a backslash stands before what a shell would take for its own.
fn tags(export: &str) -> HashMap<String, String> {
    let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), unescaped(value)));
    export.lines().filter_map(pair).collect()
}

fn unescaped(value: &str) -> String {
    let mut chars = value.chars();
    let mut plain = String::new();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blkids_export_is_read() {
        let tags = tags("DEVNAME=/dev/sda1\nLABEL=my\\ root\\\\1\nUUID=1-2\nTYPE=ext4\nnothing\n");
        assert_eq!(tags["LABEL"], "my root\\1");
        assert_eq!(tags["TYPE"], "ext4");
        assert_eq!(tags.len(), 4);
    }

    /// blkid itself is the judge: an image with a label that needs escapes, and one with a table.
    #[test]
    fn blkid_sees_what_mke2fs_and_sfdisk_made() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("fs");
        File::create(&image).unwrap().set_len(4 << 20).unwrap();
        let run = |program: &str, args: &[&str], input: &str| {
            let mut child = Command::new(program)
                .args(args)
                .arg(&image)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
            assert!(child.wait().unwrap().success(), "{program}");
        };
        // A probe goes by a name below /dev, so it is led back to the image.
        let name = format!("..{}", image.display());
        assert_eq!(probe(&name).unwrap().get("TYPE"), None);
        run("mke2fs", &["-q", "-t", "ext4", "-L", "a b\"c\\"], "");
        let found = probe(&name).unwrap();
        assert_eq!((found["TYPE"].as_str(), found["LABEL"].as_str()), ("ext4", "a b\"c\\"));
        run("sfdisk", &["-q", "--wipe", "always", "--label", "dos"], ",1M,L\n");
        assert_eq!(probe(&name).unwrap().get("PTTYPE").map(String::as_str), Some("dos"));
        assert!(probe("../nonexistent").is_err());
    }
}
