//! A node's log: on all its consoles, and in a file that is handed to the controller.
//!
//! Serial console and screen both show it, whichever a person watches. PID 1 and the worker write to the same
//! file, one whole line at a time.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use ka::shown;
use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::time::{ClockId, clock_gettime};

use super::console::Console;

/// The log file.
pub const FILE: &str = "/run/ka/log";

/// The log level, with and without `ka.debug`.
#[must_use]
pub fn level_of(debug: bool) -> LevelFilter {
    if debug { LevelFilter::Debug } else { LevelFilter::Info }
}

/// Sends this process's log messages up to `level` to all consoles and to [`FILE`]. Panics are logged too.
///
/// # Errors
/// The file cannot be created, or a logger is already set. The consoles work even without the file.
pub fn start(level: LevelFilter) -> io::Result<()> {
    let file = open(Path::new(FILE));
    let (file, trouble) = match file {
        Ok(file) => (Some(file), None),
        Err(e) => (None, Some(e)),
    };
    let everywhere = Everywhere { consoles: Console::active(), file };
    log::set_boxed_logger(Box::new(everywhere)).map_err(io::Error::other)?;
    log::set_max_level(level);
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    trouble.map_or(Ok(()), Err)
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    // It describes the inside of the clone; other users of this machine must not read it.
    File::options().create(true).append(true).mode(0o640).open(path)
}

struct Everywhere {
    consoles: Vec<Console>,
    file: Option<File>,
}

impl Log for Everywhere {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now = clock_gettime(ClockId::Boottime);
        let line = line(now.tv_sec, now.tv_nsec, record.level(), &record.args().to_string());
        for console in &self.consoles {
            console.write(&line);
        }
        if let Some(mut file) = self.file.as_ref() {
            // If the log cannot be written, there is nowhere to report it.
            let _ = file.write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// A message with the time since boot: the clock may be wrong until the controller has been asked.
fn line(seconds: i64, nanoseconds: i64, level: Level, message: &str) -> String {
    let level = match level {
        Level::Error => "ERROR ",
        Level::Warn => "WARN ",
        Level::Info => "",
        Level::Debug | Level::Trace => "debug ",
    };
    format!("[{seconds:5}.{:03}] {level}{}\n", nanoseconds / 1_000_000, shown::record(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_carry_the_time_since_boot() {
        assert_eq!(line(3, 45_999_999, Level::Info, "network: OK"), "[    3.045] network: OK\n");
        assert_eq!(line(123_456, 0, Level::Error, "mkfs\nfailed\n"), "[123456.000] ERROR mkfs\n    failed\n");
        assert_eq!(
            line(1, 0, Level::Info, "a\u{1b}[2Jb\n[    1.000] c"),
            "[    1.000] a?[2Jb\n    [    1.000] c\n"
        );
    }
}
