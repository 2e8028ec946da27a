//! The machine's consoles: where a person may look, and may press a key.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr, tcsetattr,
};

/// A terminal that the kernel writes its messages to.
pub(super) struct Console {
    path: PathBuf,
    terminal: File,
}

impl Console {
    /// All consoles that can be opened, as the kernel lists them.
    pub(super) fn active() -> Vec<Self> {
        let listed = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
        // Without a list there is still the kernel's choice.
        let names = if listed.trim().is_empty() { "console" } else { listed.trim() };
        names.split_whitespace().filter_map(|name| Self::open(&Path::new("/dev").join(name)).ok()).collect()
    }

    /// Opens a terminal without making it the controlling one, and without waiting for a modem.
    fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
        let terminal =
            File::options().read(true).write(true).custom_flags(flags.bits().cast_signed()).open(path)?;
        rustix::fs::fcntl_setfl(&terminal, rustix::fs::fcntl_getfl(&terminal)?.difference(OFlags::NONBLOCK))?;
        Ok(Self { path: path.to_owned(), terminal })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn terminal(&self) -> &File {
        &self.terminal
    }

    /// Shows `text`. A console that fails cannot tell, and must not stop the others.
    pub(super) fn write(&self, text: &str) {
        let _ = (&self.terminal).write_all(text.as_bytes());
    }
}

/// Waits until a key is pressed on one of `consoles`, and says on which. With a limit, counts down on all
/// of them, and gives up at its end.
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
        // To the next whole second, so that each number is shown once.
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

/// Waits at most `wait` for a key. Stops listening to consoles that have nobody behind them.
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
        let heard = (&l.console.terminal).read(&mut [0u8; 64]).is_ok_and(|read| read > 0);
        if heard {
            pressed = Some(l.console);
        }
        heard
    });
    pressed
}

/// A console that gives single keys instead of lines, until this is dropped.
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
            // Where single keys are impossible, Enter still works. What was typed before the question
            // is no answer to it.
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

    /// A terminal with nobody behind it but the test, which holds the other end.
    fn terminal() -> (File, Console) {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
        (person.into(), Console::open(Path::new(&name)).unwrap())
    }

    /// What the person sees up to and with `end`.
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
    fn a_console_that_nobody_holds_does_not_stop_the_countdown() {
        let (person, console) = terminal();
        drop(person);
        assert!(wait_for_key(&[console], Some(Duration::from_millis(10))).is_none());
    }
}
