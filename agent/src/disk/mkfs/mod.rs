//! Creates file systems and swap with the golden node's tools, which are part of stage2.
//!
//! The commands are decided before the disk is written ([`Recipe::new`]), so that a missing tool or an
//! impossible setting is found while everything can still be refused. Afterwards the superblock is read back:
//! some tools succeed without doing what was requested.

pub(super) mod check;
mod features;
mod recipe;
pub(super) mod superblock;

use super::error::DiskError;
use ka::plan::FileSystemPlan;
use ka_host::tool;
pub(super) use recipe::{Recipe, Target};
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The time limit for a tool on one file system; on a healthy disk it takes seconds.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Follows the recipe on a partition and reads the result back. Returns the UUID.
pub(super) fn make(plan: &FileSystemPlan, recipe: &Recipe, device: &Path) -> Result<String, DiskError> {
    for (program, arguments) in &recipe.commands {
        run(program, arguments, device)?;
    }
    let found = superblock::read(plan.kind, device)
        .map_err(|e| DiskError::io(device, "read back what was made", e))?;
    let is_it = found.as_ref().is_some_and(|found| found.kind == plan.kind && found.uuid == recipe.uuid);
    if is_it {
        return Ok(recipe.uuid.clone());
    }
    Err(DiskError::ReadBack {
        device: device.to_owned(),
        tool: recipe.commands.first().map_or("mkfs", |(program, _)| program),
        expected: format!("{} with UUID {}", plan.kind, recipe.uuid),
        found: found
            .map_or_else(|| "none".to_owned(), |found| format!("{} with UUID {}", found.kind, found.uuid)),
    })
}

fn run(program: &'static str, arguments: &[String], device: &Path) -> Result<(), DiskError> {
    let failed =
        |outcome, output| DiskError::Tool { tool: program, device: device.to_owned(), outcome, output };
    let mut command = Command::new(program);
    command.args(arguments).arg(device).env("LC_ALL", "C").stdin(Stdio::null());
    let output = tool::output(&mut command, LIMIT)
        .map_err(|e| failed(format!("cannot start it: {e}"), String::new()))?;
    if output.end.success() {
        return Ok(());
    }
    let mut text = String::new();
    for stream in [&output.stderr, &output.stdout] {
        let stream = String::from_utf8_lossy(stream);
        if !stream.trim().is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, ": {}", stream.trim());
        }
    }
    Err(failed(output.end.to_string(), text))
}

/// A random UUID, from the kernel.
pub(super) fn fresh_uuid() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim_end().to_owned())
}
