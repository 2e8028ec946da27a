//! The log of kactl itself goes to standard error, around a live display if there is one.

use std::io::{self, Write};
use std::sync::Mutex;

use indicatif::MultiProgress;
use log::LevelFilter;
use simplelog::{ConfigBuilder, WriteLogger};

/// The display that must step aside while a line is printed.
static DISPLAY: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// Starts the log: warnings and what a person waits for; `-v` adds details, `-vv` everything.
pub fn start(verbose: u8) {
    let level = match verbose {
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
    if WriteLogger::init(level, config, Lines::default()).is_err() {
        log::debug!("the log had been started already");
    }
}

/// Makes log lines appear above `display` instead of through it; `None` ends that.
pub fn set_display(display: Option<MultiProgress>) {
    *lock() = display;
}

fn lock() -> std::sync::MutexGuard<'static, Option<MultiProgress>> {
    DISPLAY.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Collects what the logger writes in pieces, and prints whole lines.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if self.line.ends_with(b"\n") {
            let line = harmless(&std::mem::take(&mut self.line));
            match lock().as_ref() {
                Some(display) => display.suspend(|| io::stderr().write_all(&line))?,
                None => io::stderr().write_all(&line)?,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Nodes tell names and reasons that end up in a line: nothing of them may move the cursor, hide text, or
/// pass for a line of its own.
fn harmless(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\n');
    let shown = text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '?' } else { c });
    (shown.collect::<String>().replace('\n', "\n    ") + "\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn a_nodes_words_stay_in_their_line() {
        assert_eq!(harmless(b"node \x1b[2J\r is here\n"), b"node ?[2J? is here\n");
        assert_eq!(harmless(b"failed:\n[INFO] all is well\n"), b"failed:\n    [INFO] all is well\n");
        assert_eq!(harmless(b"\xff\n"), "\u{fffd}\n".as_bytes());
    }
}
