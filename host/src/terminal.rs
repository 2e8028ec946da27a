//! The only way to standard output, standard error, and a log for people.
//!
//! Text from other machines and from files reaches a person through here, and loses its terminal control
//! characters here ([`ka::shown`]). `clippy.toml` forbids every other way.
#![expect(clippy::disallowed_methods, reason = "this is the place that they are forbidden for")]

use std::fmt::Display;
use std::io::{self, IsTerminal, Stderr, Stdout, Write};

use ka::shown::{self, Filter};
use log::{LevelFilter, Log, Metadata, Record};

/// Standard output.
#[must_use]
pub fn out() -> Filter<Stdout> {
    Filter::new(io::stdout())
}

/// Standard error.
#[must_use]
pub fn err() -> Filter<Stderr> {
    Filter::new(io::stderr())
}

/// Standard output for data that the terminal must interpret: the screen of a shell that this person has
/// opened on another machine.
#[must_use]
pub fn raw_out() -> Stdout {
    io::stdout()
}

/// Standard output for data that is written to a file. It is filtered only if it goes to a terminal.
#[must_use]
pub fn data() -> Box<dyn Write + Send> {
    if out_is_terminal() { Box::new(out()) } else { Box::new(io::stdout()) }
}

/// Whether standard output is a terminal.
#[must_use]
pub fn out_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard error is a terminal.
#[must_use]
pub fn err_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Ends this process with the requested help, or with the error in its command line, which may contain text
/// from anywhere.
pub fn usage(text: &str, is_error: bool, code: i32) -> ! {
    // If no reader is left, the exit status still says it.
    let _ = if is_error { err().write_all(text.as_bytes()) } else { out().write_all(text.as_bytes()) };
    std::process::exit(code)
}

/// Prints on standard error why `program` ends. If that fails, the exit status still says it.
pub fn complain(program: &str, error: impl Display) {
    let _ = writeln!(err(), "{program}: {}", shown::record(&error.to_string()));
}

/// Prints a line on standard output for a person. A closed pipe is not an error.
pub fn say(line: impl Display) {
    let _ = writeln!(out(), "{}", shown::record(&line.to_string()));
}

/// Makes `logger` this process's log. Messages are filtered for terminals, and panics are logged too.
pub fn log_with(logger: impl Log + 'static, level: LevelFilter) {
    if log::set_boxed_logger(Box::new(Shown(logger))).is_err() {
        log::debug!("the log had been started already");
        return;
    }
    log::set_max_level(level);
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
}

/// A log that filters its messages for terminals.
struct Shown<L>(L);

impl<L: Log> Log for Shown<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let text = shown::record(&record.args().to_string());
            self.0.log(
                &Record::builder()
                    .metadata(record.metadata().clone())
                    .args(format_args!("{text}"))
                    .module_path(record.module_path())
                    .file(record.file())
                    .line(record.line())
                    .build(),
            );
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Log for Kept {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &Record<'_>) {
            self.0.lock().unwrap().push(format!("{} {}", record.level(), record.args()));
        }
        fn flush(&self) {}
    }

    #[test]
    fn a_logs_messages_are_fit_to_be_shown() {
        let kept = Kept::default();
        let log = Shown(kept.clone());
        let say = |text: &str| {
            log.log(&Record::builder().level(log::Level::Warn).args(format_args!("host {text}")).build());
        };
        say("\u{1b}]0;x\u{7}\u{202e}evil");
        say("a\n[INFO] all is well\n");
        assert_eq!(*kept.0.lock().unwrap(), ["WARN host ?]0;x??evil", "WARN host a\n    [INFO] all is well"]);
    }
}
