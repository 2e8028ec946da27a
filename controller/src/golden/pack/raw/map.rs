//! The used parts of a file system, as partclone reports them in a ddrescue map.
//!
//! In the map (GNU ddrescue's manual, "Mapfile structure") only the blocks marked `+` count: these are used.
//! Ranges that the map does not mention are after the file system.

use std::path::Path;
use std::process::{Command, Stdio};

use ka::archive::Segment;

/// Both ends of a partition are always copied: boot code that no file system counts as its own, and data kept
/// after it, such as NTFS's second boot sector.
const EDGE: u64 = 64 << 10;

/// The used parts of the file system of `kind` (blkid's word) on `device`, which must not be written to.
pub(super) fn of(kind: &str, device: &Path, size: u64) -> Result<Vec<Segment>, String> {
    let program = format!("partclone.{kind}");
    let folder = tempfile::tempdir().map_err(|e| format!("no directory for {program}'s files: {e}"))?;
    let (map, log) = (folder.path().join("map"), folder.path().join("log"));
    let output = Command::new(&program)
        // Forced: the caller knows that it is mounted read-only or frozen, if at all.
        .args(["--domain", "--quiet", "--force", "--source"])
        .arg(device)
        .arg("--output")
        .arg(&map)
        .arg("--logfile")
        .arg(&log)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{program} (package partclone) cannot be run: {e}"))?;
    if !output.status.success() {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let last =
            said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it printed nothing");
        return Err(format!("{program} ended with {}: {last}", output.status));
    }
    let text = std::fs::read_to_string(&map).map_err(|e| format!("{program} wrote no map: {e}"))?;
    parse(&text, size).map_err(|wrong| format!("the map from {program}: {wrong}"))
}

/// Reads a map of a partition of `size` bytes.
fn parse(text: &str, size: u64) -> Result<Vec<Segment>, String> {
    let edge = EDGE.min(size);
    let mut segments = vec![Segment { offset: 0, len: edge }];
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.starts_with('#') && !line.trim().is_empty());
    let mut end = 0;
    // The first line is the position where ddrescue would continue.
    for (line, number) in lines.skip(1) {
        let wrong = || format!("line {number} says '{line}', expected `POSITION SIZE STATUS` in order");
        let words: Vec<&str> = line.split_whitespace().collect();
        let [offset, len, status] = words[..] else { return Err(wrong()) };
        let (offset, len) = hexadecimal(offset).zip(hexadecimal(len)).ok_or_else(wrong)?;
        let next = offset.checked_add(len).filter(|_| offset >= end).ok_or_else(wrong)?;
        end = next;
        match status {
            // A file system's last block may be counted completely.
            "+" if offset < size => segments.push(Segment { offset, len: len.min(size - offset) }),
            "+" => return Err(format!("line {number} is beyond the partition's {size} bytes")),
            "?" => {}
            _ => return Err(wrong()),
        }
    }
    if end == 0 {
        return Err("it is empty".to_owned());
    }
    for offset in [end, size - edge].into_iter().filter(|&offset| offset < size) {
        segments.push(Segment { offset, len: edge.min(size - offset) });
    }
    segments.retain(|segment| segment.len > 0);
    segments.sort_by_key(|segment| segment.offset);
    Ok(segments)
}

fn hexadecimal(word: &str) -> Option<u64> {
    u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "# Domain logfile\n# current_pos  current_status\n0x00400000     ?\n#  pos size status\n\
        0x00000000  0x00020000  +\n0x00020000  0x000E0000  ?\n0x00100000  0x00001000  +\n0x00101000  0x002FF000  ?\n";

    #[test]
    fn the_used_parts_and_the_edges_travel() {
        let of = |pairs: &[(u64, u64)]| -> Vec<Segment> {
            pairs.iter().map(|&(offset, len)| Segment { offset, len }).collect()
        };
        let size = 5 << 20;
        let expected =
            of(&[(0, EDGE), (0, 0x20000), (0x10_0000, 0x1000), (4 << 20, EDGE), (size - EDGE, EDGE)]);
        assert_eq!(parse(MAP, size).unwrap(), expected);
    }

    #[test]
    fn a_map_that_cannot_be_is_none() {
        for (text, what) in [
            ("", "empty"),
            ("0x0 ?\n", "empty"),
            ("0x0 ?\n0x0 0x10\n", "line 2"),
            ("0x0 ?\n0x0 0x10 *\n", "line 2"),
            ("0x0 ?\n0x10 0x10 +\n0x0 0x10 +\n", "line 3"),
            ("0x0 ?\n0x0 0xFFFFFFFFFFFFFFFF ?\n0xFFFFFFFFFFFFFFFF 0x2 +\n", "line 3"),
            ("0x0 ?\n0x0 0x600000 ?\n0x600000 0x10 +\n", "beyond"),
            ("0x0 ?\n16 16 +\n", "line 2"),
        ] {
            let error = parse(text, 5 << 20).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
