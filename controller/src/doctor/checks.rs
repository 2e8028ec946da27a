//! The checks, one function each.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use ka::arch;
use ka::inventory::Firmware;
use ka_host::ports::{self as owners, Transport};
use ka_host::{hardware, system};
use ka_net::relay::window;
use rustix::system::uname;

use super::Finding;
use crate::config::keys::{self as key_files};
use crate::config::{Config, Directories};
use crate::golden::describe::describe;
use crate::golden::scan::scan;
use crate::pxe::loaders::Loaders;
use crate::rendezvous::registry;
use crate::view::units;

/// The oldest kernel with mount_setattr(2), by which the golden file systems are read.
const OLDEST_KERNEL: (u32, u32) = (5, 12);

pub(super) fn root() -> Finding {
    if rustix::process::geteuid().is_root() {
        Finding::ok("root", "kactl runs as root")
    } else {
        Finding::fail(
            "root",
            "kactl does not run as root, and cannot see everything",
            "sudo kactl doctor ...",
        )
    }
}

pub(super) fn kernel() -> Finding {
    let release = uname().release().to_string_lossy().into_owned();
    if version(&release).is_some_and(|version| version < OLDEST_KERNEL) {
        let (major, minor) = OLDEST_KERNEL;
        return Finding::fail(
            "kernel",
            format!("{release} is older than {major}.{minor}, and cannot read mounted file systems apart"),
            "upgrade this machine's kernel",
        );
    }
    let modules = Path::new("/lib/modules").join(&release);
    if modules.is_dir() {
        Finding::ok("kernel", format!("{release}, with its modules"))
    } else {
        Finding::warn(
            "kernel",
            format!("{release} runs, and {} is missing: no image can be built for it", modules.display()),
            "reboot into the installed kernel, or name another with 'kactl image --kernel VERSION'",
        )
    }
}

/// The first two numbers of a kernel's version.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

pub(super) fn firmware() -> Finding {
    let name = match hardware::firmware() {
        Firmware::Bios => "BIOS",
        _ => "UEFI",
    };
    Finding::ok("firmware", format!("{name}; nodes must have the same, or see 'kactl run --firmware'"))
}

pub(super) fn tools(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    for (tool, package, why) in [
        ("dnsmasq", "dnsmasq-base", "kactl pxe serves DHCP and TFTP with it"),
        ("nft", "nftables", "it keeps one machine from blocking TFTP for all others"),
    ] {
        if !is_installed(tool) {
            let what = format!("{tool} is missing: {why}");
            found.push(Finding::warn("tools", what, format!("apt-get install {package}")));
        }
    }
    match Loaders::find(&config.pxe) {
        Err(error) => found.push(Finding::warn("tools", error.to_string(), "")),
        Ok(loaders) if !loaders.serves_uefi() => found.push(Finding::warn(
            "tools",
            "iPXE is missing: UEFI machines find nothing to boot",
            "apt-get install ipxe",
        )),
        Ok(_) => {}
    }
    if found.is_empty() {
        found.push(Finding::ok("tools", "dnsmasq, nft and the boot loaders are there"));
    }
    found
}

fn is_installed(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    places.into_iter().any(|place: PathBuf| place.join(tool).exists())
}

pub(super) fn keys(config: &Config) -> Finding {
    match key_files::load(&config.directories.keys) {
        Ok(_) => Finding::ok("keys", config.directories.keys.display().to_string()),
        Err(error) => Finding::fail("keys", crate::exit::words(&error.into()), ""),
    }
}

pub(super) fn image(config: &Config) -> Finding {
    let directories = &config.directories;
    let kernel = directories.boot().join("vmlinuz");
    let parts = [kernel.clone(), directories.boot().join("all.rdz"), directories.stage2()];
    if let Some(missing) = parts.iter().find(|part| !part.exists()) {
        return Finding::fail("image", format!("{} is missing", missing.display()), "kactl image");
    }
    if !has_our_key(&parts[1], directories) {
        return Finding::fail("image", "it has another join key than this machine", "kactl image --key-only");
    }
    let release = uname().release().to_string_lossy().into_owned();
    let running = [
        PathBuf::from(format!("/boot/vmlinuz-{release}")),
        Path::new("/lib/modules").join(&release).join("vmlinuz"),
    ];
    let same = |running: &PathBuf| match (fs::read(running), fs::read(&kernel)) {
        (Ok(running), Ok(image)) => running == image,
        _ => false,
    };
    match running.iter().find(|file| file.exists()) {
        Some(running) if !same(running) => Finding::warn(
            "image",
            format!("it has another kernel than the running {release}: new drivers are missing on the nodes"),
            "kactl image",
        ),
        Some(_) => Finding::ok("image", format!("of the running kernel {release}, with this machine's key")),
        None => Finding::ok("image", "with this machine's key"),
    }
}

fn has_our_key(image: &Path, directories: &Directories) -> bool {
    match (fs::read(image), fs::read(key_files::join_file(&directories.keys))) {
        (Ok(image), Ok(key)) => !key.is_empty() && image.windows(key.len()).any(|part| part == key),
        _ => false,
    }
}

pub(super) fn ports(config: &Config) -> Vec<Finding> {
    let sessions = config.directories.run.join("sessions");
    let ports = &config.ports;
    let mut found = Vec::new();
    for (name, port) in [("control", ports.control), ("data", ports.data), ("booted", ports.booted)] {
        let Some(holder) = owners::holder(Transport::Tcp, port) else { continue };
        if holder.starts_with("kactl ") || registry::serves(&sessions, port) {
            continue;
        }
        let what = format!("port {port} is held by {holder}");
        let remedy = format!("stop that program, or set {name} in the configuration's [ports]");
        // For the others, a free port is taken instead.
        let finding = if name == "control" { Finding::fail } else { Finding::warn };
        found.push(finding("ports", what, remedy));
    }
    if found.is_empty() {
        found.push(Finding::ok("ports", format!("{}, {} and {}", ports.control, ports.data, ports.booted)));
    }
    found
}

/// Which of the disks can be cloned, and why others cannot.
pub(super) fn disks() -> Vec<Finding> {
    let mut all = hardware::disks(false);
    // An image file is no disk of a machine, unless it is asked for.
    all.retain(|disk| !disk.name.starts_with("loop"));
    if all.is_empty() {
        return vec![Finding::fail("disks", "this machine has no disk", "")];
    }
    all.iter()
        .map(|disk| {
            let size = units::bytes(disk.size);
            let described = scan(&disk.name)
                .map_err(|error| error.to_string())
                .and_then(|golden| describe(&golden).map_err(|error| error.to_string()));
            match described {
                Ok(_) => Finding::ok("disks", format!("{} ({size}) can be cloned", disk.name)),
                Err(why) => Finding::warn(
                    "disks",
                    format!("{} ({size}) cannot be cloned as it is: {why}", disk.name),
                    format!("leave it out with -X {}, or describe it in a file for -p", disk.name),
                ),
            }
        })
        .collect()
}

pub(super) fn memory() -> Finding {
    let window = window::default_size();
    Finding::ok("memory", format!("{} for the window of the stream", units::bytes(window)))
}

/// The system's own loader is installed on the clones by its own tools.
pub(super) fn boot_loader() -> Finding {
    let arch::Arch { grub_bios, grub_uefi, .. } = arch::THIS;
    let packages: Vec<_> = grub_bios.iter().chain([&grub_uefi]).map(|grub| grub.package).collect();
    let tools = ["grub-install", "grub2-install", "bootctl", "extlinux", "lilo"];
    match tools.iter().find(|tool| is_installed(tool)) {
        Some(tool) if tool.starts_with("grub") => {
            match system::missing(Path::new("/"), hardware::firmware()) {
                None => Finding::ok("boot loader", "GRUB, complete for this firmware"),
                Some(why) => Finding::warn("boot loader", why, "or name another with 'kactl run --loader'"),
            }
        }
        Some(tool) => Finding::ok("boot loader", format!("{tool}; name it with 'kactl run --loader'")),
        None => Finding::warn(
            "boot loader",
            "no tool that installs one was found: the clones would not boot",
            format!("apt-get install grub2-common {}", packages.join(" ")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn versions_of_kernels() {
        for (text, expected) in
            [("6.1.0-18-cloud", Some((6, 1))), ("5.11", Some((5, 11))), ("next", None), ("6", None)]
        {
            assert_eq!(version(text), expected, "{text}");
        }
    }

    #[test]
    fn a_machine_without_keys_and_image_is_told_what_makes_them() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.directories.keys = directory.path().join("keys");
        config.directories.state = directory.path().join("state");
        let (keys, image) = (keys(&config), image(&config));
        assert!(keys.verdict == Verdict::Fail && keys.what.contains("kactl init"), "{keys}");
        assert!(image.verdict == Verdict::Fail && image.remedy == "kactl image", "{image}");
    }
}
