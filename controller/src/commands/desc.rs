//! `kactl desc DISK`: writes a description of one of this machine's disks.

use crate::golden::describe::{DescribeError, describe, render};
use crate::golden::scan::{ScanError, scan};
use ka::disk::description::Format;
use std::io::{self, Write};

/// Options of `kactl desc`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kactl desc sda > sda.desc")]
pub struct DescArgs {
    /// The disk to describe: a kernel name such as sda, or a path
    #[arg(value_name = "DISK")]
    pub disk: String,
    /// Format: desc ('TYPE SIZE' lines), or sfdisk (its script, which can also describe a GPT); default: desc
    /// for an MBR on which a partition can fill the disk, else sfdisk
    #[arg(long, value_name = "FORM")]
    pub format: Option<DescFormat>,
}

/// The two forms of a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DescFormat {
    /// `[logical] TYPE SIZE`.
    Desc,
    /// A script for sfdisk.
    Sfdisk,
}

impl From<DescFormat> for Format {
    fn from(format: DescFormat) -> Self {
        match format {
            DescFormat::Desc => Self::Desc,
            DescFormat::Sfdisk => Self::Sfdisk,
        }
    }
}

/// Why there is no description.
#[derive(Debug, thiserror::Error)]
pub enum DescCommandError {
    /// The disk cannot be examined.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A description cannot express the disk's layout.
    #[error(transparent)]
    Describe(#[from] DescribeError),
    /// The description cannot be written to the output.
    #[error("cannot write the description: {0}")]
    Write(io::Error),
}

impl From<io::Error> for DescCommandError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

/// Writes the description to `out`. What it cannot express goes to the log and into its comments.
///
/// # Errors
/// The disk does not exist, or has a table that no description can express.
pub fn run(args: &DescArgs, out: &mut impl Write) -> Result<(), DescCommandError> {
    let disk = scan(&args.disk)?;
    let (text, notes) = render(&disk, &describe(&disk)?, args.format.map(Format::from));
    for note in &notes {
        log::warn!("{note}");
    }
    out.write_all(text.as_bytes())?;
    out.flush()?;
    // Standard output is the description's.
    log::info!(
        "next: write this into a file, edit it, and try it with `kactl run -n 1 -p {}=FILE --dry-run`",
        disk.name
    );
    Ok(())
}
