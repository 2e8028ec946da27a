//! `kactl desc DISK`: writes a description of a disk of this machine.

use crate::golden::describe::{DescribeError, describe};
use crate::golden::scan::{ScanError, scan};
use std::io::{self, Write};

/// Options of `kactl desc`.
#[derive(Debug, clap::Args)]
pub struct DescArgs {
    /// The disk to describe: a kernel name such as sda, or a path
    #[arg(value_name = "DISK")]
    pub disk: String,
}

/// Why there is no description.
#[derive(Debug, thiserror::Error)]
pub enum DescCommandError {
    /// The disk can't be looked at.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A description can't say what the disk is.
    #[error(transparent)]
    Describe(#[from] DescribeError),
    /// The description can't be written out.
    #[error("can't write the description: {0}")]
    Write(#[from] io::Error),
}

/// Writes the description to `out`, and what it can't say to the log.
///
/// # Errors
/// The disk is not there, or has a table that no description can say.
pub fn run(args: &DescArgs, out: &mut impl Write) -> Result<(), DescCommandError> {
    let description = describe(&scan(&args.disk)?)?;
    for note in &description.notes {
        log::warn!("{note}");
    }
    out.write_all(description.text.as_bytes())?;
    out.flush()?;
    Ok(())
}
