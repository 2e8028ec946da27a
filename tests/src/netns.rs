//! Network namespaces: hosts with a network of their own, created by a test and removed with it.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace, created with ip-netns(8). Dropping this removes it.
pub struct NetNs {
    name: String,
}

impl NetNs {
    /// Makes the namespace `ka-NAME-PID`.
    ///
    /// # Panics
    /// Without root or iproute2: such a test must not pass silently.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let name = format!("ka-{name}-{}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]));
        Self { name }
    }

    /// The namespace's name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A cable to another namespace: a veth pair, `mine` here and `theirs` there, both down and without
    /// addresses.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn cable(&self, mine: &str, other: &Self, theirs: &str) {
        self.ip(&["link", "add", mine, "type", "veth", "peer", "name", theirs, "netns", &other.name]);
    }

    /// Runs `ip ARGS` in the namespace.
    ///
    /// # Panics
    /// If it fails.
    pub fn ip(&self, args: &[&str]) {
        run(Command::new("ip").args(["-n", &self.name]).args(args));
    }

    /// A command that will run in the namespace.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `work` in a thread in the namespace, and returns its result.
    ///
    /// # Panics
    /// If the namespace cannot be entered, or when `work` panics.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let handle = File::open(format!("/run/netns/{}", self.name)).expect("namespace made by ip netns");
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("enter a network namespace: root is needed");
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        let outcome = Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status();
        if !outcome.is_ok_and(|status| status.success()) {
            eprintln!("network namespace {} is left behind", self.name);
        }
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|e| panic!("{command:?}: {e} (package iproute2 is needed)"));
    assert!(status.success(), "{command:?}: {status} (root is needed)");
}
