//! Making file systems and swap with the tools that stage2 brings.

use super::MadeFileSystem;
use super::error::DiskError;
use crate::tool;
use ka::disk::mbr::DiskSignature;
use ka::plan::{FileSystemKind, FileSystemPlan};
use std::fmt::Write;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a tool may work on one file system; on a sound disk it takes seconds.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Makes what the plan says on a partition, with a fresh UUID, and reads back that it is there.
pub(super) fn make(
    plan: &FileSystemPlan,
    device: &Path,
    signature: DiskSignature,
) -> Result<MadeFileSystem, DiskError> {
    let uuid = fresh_uuid().map_err(|e| DiskError::io(device, "get a fresh UUID", e))?;
    let made_by = run_tool(plan, device, &uuid)?;
    let found =
        read_uuid(plan.kind, device).map_err(|e| DiskError::io(device, "read back what was made", e))?;
    if found.as_ref() != Some(&uuid) {
        return Err(DiskError::ReadBack {
            device: device.to_owned(),
            tool: made_by,
            expected: format!("{} with UUID {uuid}", plan.kind),
            found: found.map_or_else(|| "none".to_owned(), |uuid| format!("UUID {uuid}")),
        });
    }
    Ok(MadeFileSystem {
        plan: plan.clone(),
        device: device.to_owned(),
        uuid,
        partuuid: signature.partuuid(plan.partition),
    })
}

/// A random UUID, from the kernel.
pub(super) fn fresh_uuid() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim_end().to_owned())
}

fn run_tool(plan: &FileSystemPlan, device: &Path, uuid: &str) -> Result<&'static str, DiskError> {
    let (program, options): (_, &[&str]) = match plan.kind {
        // GRUB 2.06 reads no ext4 whose checksums have a seed of their own; the rest of the features
        // are as the golden node's mke2fs.conf has them.
        FileSystemKind::Ext4 => ("mkfs.ext4", &["-q", "-F", "-O", "^metadata_csum_seed"]),
        FileSystemKind::Swap => ("mkswap", &[]),
        kind => return Err(DiskError::Unsupported { device: device.to_owned(), kind }),
    };
    let mut command = Command::new(program);
    command.args(options).args(["-U", uuid]);
    if let Some(label) = &plan.label {
        command.args(["-L", label]);
    }
    let failed =
        |outcome, output| DiskError::Tool { tool: program, device: device.to_owned(), outcome, output };
    let output = tool::output(command.arg(device).stdin(Stdio::null()), LIMIT)
        .map_err(|e| failed(format!("can't start it: {e}"), String::new()))?;
    if output.end.success() {
        return Ok(program);
    }
    let mut text = String::new();
    for stream in [&output.stderr, &output.stdout] {
        let stream = String::from_utf8_lossy(stream);
        if !stream.trim().is_empty() {
            // Writing to a string can't fail.
            let _ = write!(text, ": {}", stream.trim());
        }
    }
    Err(failed(output.end.to_string(), text))
}

/// The UUID in the superblock of this kind on a device, if there is one.
fn read_uuid(kind: FileSystemKind, device: &Path) -> io::Result<Option<String>> {
    let file = File::open(device)?;
    let (magic_at, magic, uuid_at): (u64, &[u8], u64) = match kind {
        // The superblock is at 1024: s_magic, s_uuid.
        FileSystemKind::Ext4 => (1024 + 56, &[0x53, 0xef], 1024 + 104),
        // A page of 4096 bytes: the UUID behind version, last page and number of bad pages at 1024.
        FileSystemKind::Swap => (4096 - 10, b"SWAPSPACE2", 1024 + 12),
        _ => return Ok(None),
    };
    let mut found = vec![0; magic.len()];
    file.read_exact_at(&mut found, magic_at)?;
    let mut uuid = [0; 16];
    file.read_exact_at(&mut uuid, uuid_at)?;
    Ok((found == magic).then(|| text_uuid(uuid)))
}

fn text_uuid(bytes: [u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    let mut text = String::with_capacity(36);
    for (i, digit) in hex.chars().enumerate() {
        if matches!(i, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_written_as_everybody_does() {
        let bytes =
            [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
        assert_eq!(text_uuid(bytes), "00112233-4455-6677-8899-aabbccddeeff");
    }
}
