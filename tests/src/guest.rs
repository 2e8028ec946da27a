//! A kernel and its initramfs, booted in a virtual machine by QEMU alone.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::kernel::Kernel;
use crate::{root, static_agent, succeed};

/// The guest's configuration.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// The kernel.
    pub kernel: &'a Path,
    /// Its initramfs.
    pub initrd: &'a Path,
    /// Additions to its command line.
    pub words: &'a str,
    /// Memory in MiB.
    pub memory: u32,
    /// An image for a virtio disk.
    pub disk: Option<&'a Path>,
}

impl Guest<'_> {
    /// Boots it until the serial console shows `end`, or the machine stops by itself. Returns the console's
    /// output.
    ///
    /// # Panics
    /// If QEMU cannot be run.
    #[must_use]
    pub fn boot(&self, end: &str) -> String {
        self.boot_on("hubport,id=n,hubid=0", |console| console.contains(end))
    }

    /// The same with a TPM: swtpm, which listens for QEMU on this socket.
    ///
    /// # Panics
    /// If QEMU cannot be run.
    #[must_use]
    pub fn boot_with_tpm(&self, socket: &Path, end: &str) -> String {
        let socket = format!("socket,id=tpm,path={}", socket.display());
        let tpm = [
            "-chardev",
            &socket,
            "-tpmdev",
            "emulator,id=tpm0,chardev=tpm",
            "-device",
            "tpm-tis,tpmdev=tpm0",
        ];
        self.boot_as("hubport,id=n,hubid=0", &tpm, |console| console.contains(end))
    }

    /// Boots it with a network card on `netdev`, whose `id` is `n`, until `is_over` returns true for the
    /// console's output, or the machine stops by itself.
    ///
    /// # Panics
    /// If QEMU cannot be run.
    #[must_use]
    pub fn boot_on(&self, netdev: &str, is_over: impl FnMut(&str) -> bool) -> String {
        self.boot_as(netdev, &[], is_over)
    }

    fn boot_as(&self, netdev: &str, more: &[&str], mut is_over: impl FnMut(&str) -> bool) -> String {
        let words = format!("console=ttyS0 panic=-1 loglevel=7 no_timer_check {}", self.words);
        // The limit only ensures that a hanging guest fails.
        let mut qemu = Command::new("timeout");
        qemu.args(["7200", "qemu-system-x86_64", "-accel", "tcg", "-nodefaults", "-no-reboot"]);
        qemu.args(["-m", &self.memory.to_string(), "-display", "none", "-serial", "stdio"]);
        qemu.args(["-netdev", netdev, "-device", "virtio-net-pci,netdev=n"]);
        qemu.args(["-append", &words]).arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initrd);
        qemu.args(more);
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

/// An initramfs with stage2 in `/stage2`, and from stage1 the kernel's modprobe, which looks for modules
/// there; `init` is its script. `files` are additional programs, apart from busybox's, with their names in
/// `/bin`; the libraries that they link to are added.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn stage2_root(kernel: &Kernel, folder: &Path, init: &str, files: &[(&Path, &str)]) -> PathBuf {
    stage2_root_of(kernel, folder, init, files, &static_agent())
}

/// The same, with this program in place of stage2's agent.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn stage2_root_of(
    kernel: &Kernel,
    folder: &Path,
    init: &str,
    files: &[(&Path, &str)],
    agent: &Path,
) -> PathBuf {
    let tree = folder.join("tree");
    fs::create_dir(&tree).expect("a temporary directory");
    let mut make = Command::new(root().join("initramfs/make-stage2"));
    succeed(make.args([&kernel.modules, Path::new("/"), agent, &tree.join("stage2")]));
    let rest = "cd \"$1\"; mkdir bin sbin dev proc sys tmp; cp stage2/bin/busybox bin; cp \"$2\" sbin/modprobe
        for tool in sh mount umount chroot mkdir sleep sync dmesg tail swapon poweroff cat ls; do ln -s busybox bin/$tool; done
        mknod dev/console c 5 1; chmod 755 sbin/modprobe init";
    fs::write(tree.join("init"), init).expect("a temporary file");
    succeed(
        Command::new("sh")
            .args(["-euc", rest, "sh"])
            .arg(&tree)
            .arg(root().join("initramfs/stage1-modprobe")),
    );
    for (file, name) in files {
        let with_libraries = "cp \"$2\" \"$1/bin/$3\"
            { ldd \"$2\" || true; } | grep -o '/[^ ]*' | while read -r library; do cp --parents -L \"$library\" \"$1\"; done";
        succeed(Command::new("sh").args(["-euc", with_libraries, "sh"]).args([&tree, *file]).arg(name));
    }
    let pack = "cd \"$1\" && find . -print0 | cpio -0 --quiet -H newc -o | zstd -q -3 >\"$2\"";
    let initrd = folder.join("initrd");
    succeed(Command::new("sh").args(["-euc", pack, "sh"]).args([&tree, &initrd]));
    initrd
}
