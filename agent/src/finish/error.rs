//! Why a finish failed.

use std::io;
use std::path::{Path, PathBuf};

use ka::failure::FailureKind;
use ka::step::Step;
use ka_host::atomic::FileError;

/// A step of the finish that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {cause}")]
pub struct FinishError {
    /// The step.
    pub step: Step,
    /// The cause.
    #[source]
    pub cause: Cause,
}

/// The cause of a step's failure.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// A file of the copied system cannot be read, written or removed.
    #[error("cannot {action} {}: {}", path.display(), ka_host::words::of_io(error))]
    File {
        /// The operation.
        action: &'static str,
        /// The file, relative to the root in which the step works.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Something is still mounted in the chroot, because a process uses it.
    #[error("cannot unmount {}: {error}{}", path.display(), Users(users))]
    Busy {
        /// The mount point.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
        /// The processes whose root is the copied system, as `PID NAME`.
        users: Vec<String>,
    },
    /// The copied system lacks a program.
    #[error("the copied system has no {tool}")]
    MissingTool {
        /// The program, or the alternatives.
        tool: String,
    },
    /// A program could not be run, or failed.
    #[error("{tool}: {reason}{}", Output(output))]
    Tool {
        /// The program with its arguments.
        tool: String,
        /// Its exit status.
        reason: String,
        /// The last lines of its output.
        output: String,
    },
    /// `/boot` contains no kernel to boot.
    #[error("/boot has no kernel with modules under /lib/modules")]
    NoKernel,
    /// A new initrd lacks a required driver.
    #[error("{} lacks the modules {modules:?}, though {tool} succeeded", initrd.display())]
    InitrdLacks {
        /// The initrd.
        initrd: PathBuf,
        /// The missing modules.
        modules: Vec<String>,
        /// The program that built it.
        tool: &'static str,
    },
    /// No installed kernel has a requested module.
    #[error("no installed kernel has the module {module}")]
    NoSuchModule {
        /// The module.
        module: String,
    },
    /// A site's list or table has an invalid line.
    #[error("{}:{line}: {wrong}", file.display())]
    List {
        /// The file, relative to the copied system.
        file: PathBuf,
        /// The line, from 1.
        line: u32,
        /// The problem, and what was expected.
        wrong: String,
    },
    /// Not a host name.
    #[error("'{0}' is not a host name: letters, digits, '-' and '.', at most 64")]
    Hostname(String),
    /// The firmware needs a partition that does not exist.
    #[error("this node starts by UEFI, and no FAT file system is mounted at /boot/efi, /efi or /boot")]
    NoSystemPartition,
    /// The firmware did not accept an entry, and one is required: by `--nvram require`, or because another
    /// loader is on the fallback path.
    #[error("the firmware's menu has no entry for this node, and without one it would not start: {error}")]
    Nvram {
        /// The reason.
        error: Box<Cause>,
    },
    /// The boot loader's tools succeeded, but the result would not boot.
    #[error("{} {wrong}", path.display())]
    NotBootable {
        /// The file or disk that was checked.
        path: PathBuf,
        /// What is wrong with it.
        wrong: String,
    },
}

impl Cause {
    /// What kind of failure it is, for the run's report.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        let reason = self.to_string();
        match self {
            Self::File { .. } | Self::NotBootable { .. } => FailureKind::Disk { reason },
            Self::MissingTool { .. } | Self::Tool { .. } => FailureKind::Tool { reason },
            Self::Busy { .. }
            | Self::NoKernel
            | Self::InitrdLacks { .. }
            | Self::NoSuchModule { .. }
            | Self::List { .. }
            | Self::Hostname(_)
            | Self::NoSystemPartition
            | Self::Nvram { .. } => FailureKind::System { reason },
        }
    }

    pub(in crate::finish) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { action, path: path.to_owned(), error: source }
    }
}

impl From<FileError> for Cause {
    fn from(error: FileError) -> Self {
        Self::File { action: error.action, path: error.path, error: error.source }
    }
}

/// A tool's output, on the lines after the error, or nothing.
struct Output<'a>(&'a str);

impl std::fmt::Display for Output<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "\n{}", self.0.trim_end()) }
    }
}

struct Users<'a>(&'a [String]);

impl std::fmt::Display for Users<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; left running: {}", self.0.join(", ")) }
    }
}
