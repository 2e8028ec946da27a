//! kactl's own log, on standard error, interleaved with a live display if there is one.

use std::io::{self, Write};
use std::sync::Mutex;

use indicatif::MultiProgress;
use ka_host::terminal;
use log::LevelFilter;
use simplelog::{ConfigBuilder, WriteLogger};

/// The display that is suspended while a line is printed.
static DISPLAY: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// Starts the log: warnings and progress messages; `-v` adds details, `-vv` everything, `-q` leaves the
/// warnings.
pub fn start(verbose: u8, quiet: bool) {
    let level = match verbose {
        _ if quiet => LevelFilter::Warn,
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let off = LevelFilter::Off;
    let config = ConfigBuilder::new()
        .set_target_level(off)
        .set_thread_level(off)
        .set_location_level(off)
        .set_time_format_rfc3339()
        .build();
    terminal::log_with(*WriteLogger::new(level, config, Lines::default()), level);
}

/// Prints log lines above `display` instead of through it; `None` ends that.
pub fn set_display(display: Option<MultiProgress>) {
    *lock() = display;
}

fn lock() -> std::sync::MutexGuard<'static, Option<MultiProgress>> {
    DISPLAY.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Collects the logger's partial writes, and prints whole lines.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if self.line.ends_with(b"\n") {
            let line = std::mem::take(&mut self.line);
            match lock().as_ref() {
                Some(display) => display.suspend(|| terminal::err().write_all(&line))?,
                None => terminal::err().write_all(&line)?,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        terminal::err().flush()
    }
}
