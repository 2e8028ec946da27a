//! `kactl console` on a pseudo-terminal.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use ka_tests::console::Golden;
use ka_tests::process::wait_until;
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{Termios, tcgetattr};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;

/// A simulated operator at a terminal.
struct Person {
    keys: File,
    /// Kept open, so that the terminal's modes can be checked.
    program: OwnedFd,
    before: Termios,
    screen: Arc<Mutex<Vec<u8>>>,
    kactl: Child,
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Person {
    fn sits_at(command: &mut Command) -> Self {
        let ends = openpty(Some(&size(24, 80)), None).unwrap();
        let before = tcgetattr(&ends.slave).unwrap();
        let shared = || Stdio::from(ends.slave.try_clone().unwrap());
        let kactl =
            command.stdin(shared()).stdout(shared()).stderr(shared()).env("TERM", "vt220").spawn().unwrap();
        let keys = File::from(ends.master);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut from, to) = (keys.try_clone().unwrap(), Arc::clone(&screen));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                to.lock().unwrap().extend_from_slice(&bytes[..length]);
            }
        });
        Self { keys, program: ends.slave, before, screen, kactl }
    }

    fn types(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).unwrap();
    }

    fn sees(&self, text: &str) {
        let shown = || String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned();
        let what = format!("the screen shows {text:?}");
        let start = std::time::Instant::now();
        wait_until(&what, || {
            assert!(start.elapsed().as_secs() < 55, "{what}, but:\n{}", shown());
            shown().contains(text)
        });
    }

    /// Waits for kactl's end; the terminal is restored.
    fn leaves(mut self) -> i32 {
        wait_until("kactl ends", || self.kactl.try_wait().unwrap().is_some());
        let after = tcgetattr(&self.program).unwrap();
        assert!(after == self.before, "the terminal is not as it was");
        let status = self.kactl.wait().unwrap();
        status.code().unwrap_or_else(|| panic!("ended by {:?}", status.signal()))
    }
}

#[test]
fn a_shell_has_a_terminal() {
    let golden = Golden::new();
    let node = golden.node(1);
    let mut person = Person::sits_at(&mut golden.dials(&["console", "node1"]));
    person.sees("ka# ");
    node.wait_for_log("opens a shell");
    person.types("echo $TERM $((20+3)); tty; stty size\r");
    person.sees("vt220 23");
    person.sees("/dev/pts/");
    person.sees("24 80");
    // The window grows, and the shell's programs are notified.
    person.types("trap 'echo grown $(stty size)' WINCH; echo set$((1+1))\r");
    person.sees("set2");
    let window = rustix_winsize(40, 132);
    rustix::termios::tcsetwinsize(&person.keys, window).unwrap();
    // The trap runs when the shell wakes.
    let start = std::time::Instant::now();
    while !String::from_utf8_lossy(&person.screen.lock().unwrap()).contains("grown 40 132") {
        assert!(
            start.elapsed().as_secs() < 60,
            "{}",
            String::from_utf8_lossy(&person.screen.lock().unwrap())
        );
        person.types("\r");
        thread::sleep(std::time::Duration::from_millis(100));
    }
    // Ctrl-C ends the program, not the shell.
    person.types("echo begin$((2+2)); sleep 1000\r");
    person.sees("begin4");
    person.types("\x03");
    person.types("echo status=$?\r");
    person.sees("status=130");
    person.types("exit 7\r");
    assert_eq!(person.leaves(), 7);
    node.wait_for_log("opens a shell: exit status 7");
}

fn rustix_winsize(rows: u16, columns: u16) -> rustix::termios::Winsize {
    rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

#[test]
fn the_escape_key_and_signals_leave_the_terminal_as_it_was() {
    let golden = Golden::new();
    let node = golden.node(1);
    let mut person = Person::sits_at(&mut golden.dials(&["console", "node1"]));
    person.sees("Ctrl-] leaves the shell");
    person.sees("ka# ");
    person.types("echo $$ >/proc/self/fd/1; echo pid$((3+3))\r");
    person.sees("pid6");
    person.types("\x1d");
    assert_eq!(person.leaves(), 0);
    node.wait_for_log("it closed the connection");

    let mut person = Person::sits_at(&mut golden.dials(&["console", "node1", "--escape", "^x"]));
    person.sees("ka# ");
    // Any other key goes to the shell.
    person.types("\x1d\r");
    person.types("echo still$((4+4))\r");
    person.sees("still8");
    let kactl = rustix::process::Pid::from_child(&person.kactl);
    rustix::process::kill_process(kactl, rustix::process::Signal::TERM).unwrap();
    assert_eq!(person.leaves(), 128 + 15);

    // The node dies during the session.
    let person = Person::sits_at(&mut golden.dials(&["console", "node1"]));
    person.sees("ka# ");
    drop(node);
    assert_eq!(person.leaves(), 2);
}

#[test]
fn without_a_terminal_there_is_no_shell() {
    let golden = Golden::new();
    let _node = golden.node(1);
    let output = golden.dials(&["console", "node1"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("not a terminal: run a command with 'kactl exec'"), "{said}");
}
