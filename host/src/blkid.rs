//! Runs blkid(8): file system type, label and UUIDs of a device.

use crate::tool::{self, End};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The time limit for probing one device: a failing device must not hold up a node or a run.
const LIMIT: Duration = Duration::from_secs(60);

/// What blkid found on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The type, such as `ext4`, `swap` or `LVM2_member`; `None` if blkid recognises nothing.
    pub kind: Option<String>,
    /// The file system's UUID.
    pub uuid: Option<String>,
    /// The file system's label.
    pub label: Option<String>,
    /// The partition's PARTUUID.
    pub partuuid: Option<String>,
    /// The kind of partition table on it: `dos`, `gpt`.
    pub table: Option<String>,
    /// The partition's type in an MBR table.
    pub partition_type: Option<u8>,
}

/// Why a device could not be probed.
#[derive(Debug, thiserror::Error)]
pub enum BlkidError {
    /// The tool cannot be started.
    #[error("cannot start blkid (of util-linux): {0}")]
    Start(io::Error),
    /// The device cannot be read.
    #[error("cannot open {device}: {error}", device = .device.display())]
    Open {
        /// The device.
        device: PathBuf,
        /// The kernel's error.
        error: io::Error,
    },
    /// Signatures of several file systems.
    #[error("{device} has the signatures of several file systems: wipe the stale one with wipefs", device = .0.display())]
    Ambivalent(PathBuf),
    /// The tool failed.
    #[error("blkid {device}: {status}: {output}", device = .device.display())]
    Failed {
        /// The device.
        device: PathBuf,
        /// Its exit status.
        status: String,
        /// Its output.
        output: String,
    },
}

/// Probes a device with blkid, bypassing its cache.
///
/// # Errors
/// blkid is missing, the device cannot be read, or blkid failed or found conflicting signatures.
pub fn probe(device: &Path) -> Result<Contents, BlkidError> {
    ask(device, &[])
}

/// Like [`probe`], for a byte range of a device: a partition that the kernel does not know.
///
/// # Errors
/// As for [`probe`].
pub fn probe_at(device: &Path, start: u64, size: u64) -> Result<Contents, BlkidError> {
    ask(device, &["-O", &start.to_string(), "-S", &size.to_string()])
}

fn ask(device: &Path, options: &[&str]) -> Result<Contents, BlkidError> {
    // blkid exits with the same status for an empty device and for one that it cannot open.
    File::open(device).map_err(|source| BlkidError::Open { device: device.to_owned(), error: source })?;
    let mut blkid = Command::new("blkid");
    blkid.args(["-p", "-o", "udev"]).args(options).arg(device).stdin(Stdio::null());
    let output = tool::output(&mut blkid, LIMIT).map_err(BlkidError::Start)?;
    // blkid(8): status 2 means that nothing was found, 8 that the result is ambiguous.
    let code = match output.end {
        End::Exited(status) => status.code(),
        End::Killed { .. } => None,
    };
    match code {
        Some(0 | 2) => Ok(parse(&String::from_utf8_lossy(&output.stdout))),
        Some(8) => Err(BlkidError::Ambivalent(device.to_owned())),
        _ => Err(BlkidError::Failed {
            device: device.to_owned(),
            status: output.end.to_string(),
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
    }
}

fn parse(text: &str) -> Contents {
    let value = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.filter(|v| !v.is_empty()).map(str::to_owned)
    };
    let hex = |text: String| u8::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    Contents {
        kind: value("ID_FS_TYPE"),
        uuid: value("ID_FS_UUID"),
        label: value("ID_FS_LABEL_ENC").map(|label| decode(&label)),
        partuuid: value("ID_PART_ENTRY_UUID"),
        table: value("ID_PART_TABLE_TYPE"),
        partition_type: value("ID_PART_ENTRY_TYPE").and_then(hex),
    }
}

/// Decodes a value in which libblkid has escaped unusual bytes as `\x` and two hexadecimal digits.
fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let escaped = rest
            .strip_prefix(b"\\x")
            .and_then(|digits| std::str::from_utf8(digits.get(..2)?).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { rest.get(4..).unwrap_or_default() } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_blkid_prints() {
        let text = "ID_FS_LABEL=my_disk\nID_FS_LABEL_ENC=my\\x20d\\x5cisk\nID_FS_UUID=1-2\nID_FS_TYPE=ext4\n\
            ID_PART_TABLE_TYPE=dos\nID_PART_ENTRY_SCHEME=dos\nID_PART_ENTRY_UUID=1a2b3c4d-01\nID_PART_ENTRY_TYPE=0x8e\n";
        let expected = Contents {
            kind: Some("ext4".into()),
            uuid: Some("1-2".into()),
            label: Some("my d\\isk".into()),
            partuuid: Some("1a2b3c4d-01".into()),
            partition_type: Some(0x8e),
            table: Some("dos".into()),
        };
        assert_eq!(parse(text), expected);
        assert_eq!(parse(""), Contents::default());
    }

    /// blkid itself is the judge: one image with a label that needs escapes, and one with a partition table.
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
        assert_eq!(probe(&image).unwrap(), Contents::default());
        run("mke2fs", &["-q", "-t", "ext4", "-L", "a b\"c\\"], "");
        let found = probe(&image).unwrap();
        assert_eq!((found.kind.as_deref(), found.label.as_deref()), (Some("ext4"), Some("a b\"c\\")));
        run("sfdisk", &["-q", "--wipe", "always", "--label", "dos"], ",1M,L\n");
        assert_eq!(probe(&image).unwrap().table.as_deref(), Some("dos"));
        assert!(matches!(probe(Path::new("/nonexistent")), Err(BlkidError::Open { .. })));
    }
}
