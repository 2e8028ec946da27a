//! A kernel and its first root, booted in a virtual machine by QEMU alone.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::succeed;

/// What is booted.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// The kernel.
    pub kernel: &'a Path,
    /// Its first root.
    pub initrd: &'a Path,
    /// What is added to its command line.
    pub words: &'a str,
    /// MiB of memory.
    pub memory: u32,
    /// An image for a virtio disk.
    pub disk: Option<&'a Path>,
}

impl Guest<'_> {
    /// Boots it until the serial console shows `end`, or the machine ends by itself. Returns what the console showed.
    ///
    /// # Panics
    /// If QEMU cannot be run.
    #[must_use]
    pub fn boot(&self, end: &str) -> String {
        self.boot_on("hubport,id=n,hubid=0", |console| console.contains(end))
    }

    /// Boots it with a network card at `netdev`, whose `id` is `n`, until `is_over` says so of what the serial console
    /// has shown, or the machine ends by itself.
    ///
    /// # Panics
    /// If QEMU cannot be run.
    #[must_use]
    pub fn boot_on(&self, netdev: &str, mut is_over: impl FnMut(&str) -> bool) -> String {
        let words = format!("console=ttyS0 panic=-1 loglevel=7 no_timer_check {}", self.words);
        // The limit is only there so that a guest that hangs fails.
        let mut qemu = Command::new("timeout");
        qemu.args(["7200", "qemu-system-x86_64", "-accel", "tcg", "-nodefaults", "-no-reboot"]);
        qemu.args(["-m", &self.memory.to_string(), "-display", "none", "-serial", "stdio"]);
        qemu.args(["-netdev", netdev, "-device", "virtio-net-pci,netdev=n"]);
        qemu.args(["-append", &words]).arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initrd);
        if let Some(disk) = self.disk {
            let drive = format!("if=virtio,format=raw,cache=unsafe,file={}", disk.display());
            qemu.args(["-drive", &drive]);
        }
        let mut machine = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("QEMU runs");
        let mut console = String::new();
        for line in BufReader::new(machine.stdout.take().expect("a pipe")).split(b'\n') {
            console += &String::from_utf8_lossy(&line.expect("a pipe can be read"));
            console.push('\n');
            if is_over(&console) {
                succeed(Command::new("kill").arg(machine.id().to_string()));
                break;
            }
        }
        machine.wait().expect("QEMU ends");
        console
    }
}
