//! The machine's consoles: where a person may read messages and press a key.
//!
//! A console may stop accepting output: Ctrl-S on the screen, noise on a serial line that reads like it, a
//! terminal server that died with flow control on. Every thread of a node logs, so a stuck console must not
//! block them: what it does not take is lost there, and remains in the log file.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr,
    tcsetattr,
};

/// How long a console may accept nothing before it counts as stuck. The slowest serial line takes hundreds of
/// bytes in this time.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often a full console is tried again. Polling would report it as ready only when it is nearly empty.
const INTERVAL: Duration = Duration::from_millis(5);

/// A terminal that the kernel writes its messages to.
pub(super) struct Console {
    path: PathBuf,
    /// Non-blocking.
    terminal: File,
    /// It is stuck: nothing is written to it until it accepts output again.
    stuck: AtomicBool,
}

impl Console {
    /// All consoles that can be opened, from the kernel's list.
    pub(super) fn active() -> Vec<Self> {
        let listed = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
        // Without a list, the kernel's default console remains.
        let names = if listed.trim().is_empty() { "console" } else { listed.trim() };
        names.split_whitespace().filter_map(|name| Self::open(&Path::new("/dev").join(name)).ok()).collect()
    }

    fn open(path: &Path) -> io::Result<Self> {
        let terminal = open(path)?;
        if let Ok(mut modes) = tcgetattr(&terminal) {
            modes.input_modes &= !InputModes::IXON;
            // This also restarts a stopped terminal. A failure still cannot block.
            let _ = tcsetattr(&terminal, OptionalActions::Now, &modes);
        }
        Ok(Self { path: path.to_owned(), terminal, stuck: AtomicBool::new(false) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The same terminal, for a program that expects it to block.
    pub(super) fn blocking(&self) -> io::Result<File> {
        let terminal = open(&self.path)?;
        rustix::fs::fcntl_setfl(&terminal, rustix::fs::fcntl_getfl(&terminal)?.difference(OFlags::NONBLOCK))?;
        Ok(terminal)
    }

    /// Writes as much of `text` as the console accepts. Errors are ignored: there is nowhere to report them,
    /// and the other consoles must not suffer.
    pub(super) fn write(&self, text: &str) {
        let mut rest = text.as_bytes();
        let mut taken = Instant::now();
        while !rest.is_empty() {
            match (&self.terminal).write(rest) {
                Ok(0) => return,
                Ok(written) => {
                    rest = rest.get(written..).unwrap_or_default();
                    taken = Instant::now();
                    self.stuck.store(false, Ordering::Relaxed);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if self.stuck.load(Ordering::Relaxed) || taken.elapsed() >= PATIENCE {
                        self.stuck.store(true, Ordering::Relaxed);
                        return;
                    }
                    thread::sleep(INTERVAL);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

/// Opens a terminal without making it the controlling one, and without waiting for a modem.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
    File::options().read(true).write(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Waits for a key on one of `consoles` and returns that console. With a limit, it counts down on all of them
/// and returns at the end.
pub(super) fn wait_for_key(consoles: &[Console], limit: Option<Duration>) -> Option<&Console> {
    let mut listening: Vec<Listening<'_>> = consoles.iter().map(Listening::start).collect();
    let start = Instant::now();
    let pressed = loop {
        let left = limit.map(|limit| limit.saturating_sub(start.elapsed()));
        let prompt = match left {
            Some(Duration::ZERO) => break None,
            Some(left) => {
                format!("\rReboot in {:2} s; press a key for a shell. ", left.as_millis().div_ceil(1000))
            }
            None => "\rPress a key for a shell. ".to_owned(),
        };
        consoles.iter().for_each(|console| console.write(&prompt));
        // Up to the next whole second, so that each number is shown once.
        let wait = left.map_or(Duration::from_secs(3600), |left| {
            Duration::from_nanos(u64::from((left - Duration::from_nanos(1)).subsec_nanos()) + 1)
        });
        if let Some(console) = pressed_within(&mut listening, wait) {
            break Some(console);
        }
    };
    consoles.iter().for_each(|console| console.write("\n"));
    pressed
}

/// Waits at most `wait` for a key. Consoles that have been disconnected are dropped.
fn pressed_within<'a>(listening: &mut Vec<Listening<'a>>, wait: Duration) -> Option<&'a Console> {
    let mut fds: Vec<PollFd<'_>> =
        listening.iter().map(|l| PollFd::new(&l.console.terminal, PollFlags::IN)).collect();
    let wait = Timespec::try_from(wait).ok();
    match poll(&mut fds, wait.as_ref()) {
        Ok(0) | Err(_) => return None,
        Ok(_) => {}
    }
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    let mut ready = ready.into_iter();
    let mut pressed = None;
    listening.retain(|l| {
        if !ready.next().unwrap_or(false) {
            return true;
        }
        match (&l.console.terminal).read(&mut [0u8; 64]) {
            Ok(1..) => {
                pressed = Some(l.console);
                true
            }
            // Another process has read the key.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => true,
            Ok(_) | Err(_) => false,
        }
    });
    pressed
}

/// A console that delivers single keys instead of lines, until this is dropped.
struct Listening<'a> {
    console: &'a Console,
    before: Option<Termios>,
}

impl<'a> Listening<'a> {
    fn start(console: &'a Console) -> Self {
        let before = tcgetattr(&console.terminal).ok();
        if let Some(mut modes) = before.clone() {
            modes.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO);
            modes.special_codes[SpecialCodeIndex::VMIN] = 1;
            modes.special_codes[SpecialCodeIndex::VTIME] = 0;
            // Where single keys are impossible, Enter still works. Input typed before the question is
            // discarded.
            let _ = tcsetattr(&console.terminal, OptionalActions::Now, &modes);
            let _ = tcflush(&console.terminal, QueueSelector::IFlush);
        }
        Self { console, before }
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(&self.console.terminal, OptionalActions::Now, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    /// A terminal whose other end the test holds.
    fn terminal() -> (File, Console) {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
        (person.into(), Console::open(Path::new(&name)).unwrap())
    }

    /// What the person sees, up to and including `end`.
    fn seen(person: &mut File, end: &str) -> String {
        let mut seen = String::new();
        let mut byte = [0u8; 1];
        while !seen.ends_with(end) {
            person.read_exact(&mut byte).unwrap();
            seen.push(char::from(byte[0]));
        }
        seen
    }

    #[test]
    fn a_key_on_any_console_stops_the_countdown() {
        let (mut screen, first) = terminal();
        let (mut serial, second) = terminal();
        let consoles = [first, second];
        std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| wait_for_key(&consoles, Some(Duration::from_secs(600))).map(Console::path));
            assert!(seen(&mut screen, "shell. ").contains("Reboot in 600 s; press a key"));
            seen(&mut serial, "shell. ");
            // One key, without Enter.
            serial.write_all(b"x").unwrap();
            assert_eq!(waiting.join().unwrap(), Some(consoles[1].path()));
        });
    }

    #[test]
    fn a_countdown_ends() {
        let (mut screen, console) = terminal();
        assert!(wait_for_key(&[console], Some(Duration::from_millis(1100))).is_none());
        let all = seen(&mut screen, "\n");
        assert!(all.contains("in  2 s") && all.contains("in  1 s"), "{all}");
        assert!(wait_for_key(&[], Some(Duration::from_millis(10))).is_none());
    }

    #[test]
    fn a_stopped_screen_shows_on() {
        let (mut person, console) = terminal();
        // Ctrl-S, as a key, or as noise on a serial line.
        person.write_all(b"\x13").unwrap();
        console.write("still here\n");
        assert!(seen(&mut person, "\n").ends_with("still here\r\n"));
    }

    #[test]
    fn a_console_that_takes_nothing_stops_nobody() {
        let (mut person, console) = terminal();
        for _ in 0..100_000 {
            console.write("no one reads this line\n");
        }
        assert!(console.stuck.load(Ordering::Relaxed));
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| seen(&mut person, "awake\r\n"));
            while !reading.is_finished() {
                console.write("awake\n");
            }
        });
        assert!(!console.stuck.load(Ordering::Relaxed));
    }

    #[test]
    fn a_shell_gets_a_terminal_that_waits() {
        let (mut person, console) = terminal();
        let mut shell = console.blocking().unwrap();
        assert!(!rustix::fs::fcntl_getfl(&shell).unwrap().contains(OFlags::NONBLOCK));
        assert!(rustix::fs::fcntl_getfl(&console.terminal).unwrap().contains(OFlags::NONBLOCK));
        person.write_all(b"ls\n").unwrap();
        let mut typed = [0; 3];
        shell.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"ls\n");
    }

    #[test]
    fn a_console_that_nobody_holds_does_not_stop_the_countdown() {
        let (person, console) = terminal();
        drop(person);
        assert!(wait_for_key(&[console], Some(Duration::from_millis(10))).is_none());
    }
}
