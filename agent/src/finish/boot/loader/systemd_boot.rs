//! systemd-boot: its program on the EFI system partition, installed by `bootctl` or brought by the copy; its
//! entries; and one in the firmware's menu.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::{FALLBACK, Setting, register, system_partition};
use crate::finish::config::identity;
use crate::finish::config::names::Names;
use crate::finish::config::references::{is_here, is_systems, machine_id, roots};
use crate::finish::error::Cause;
use crate::finish::tool;
use ka::arch::THIS;
use ka::menu::bls::{options, values};
use ka_host::system::glob;

const LABEL: &str = "Linux Boot Manager";

/// Entries with a command line in text form, and kernels with a built-in one.
const ENTRIES: &str = "loader/entries/*.conf";
const UNIFIED: &str = "EFI/Linux/*.efi";

/// The parameter with which a kernel boots to clone its machine.
const CLONES: &str = "kamethod";

/// Installs systemd-boot on the system partition and in the firmware's menu.
pub(super) fn install(setting: &Setting<'_>) -> Result<(), Cause> {
    let (esp, at) = system_partition(setting)?;
    let mounted = setting.root.join(at.trim_start_matches('/'));
    if let Some(bootctl) = tool::find(&["bootctl"]) {
        // The firmware's menu is our task, and a check against udev's database knows nothing of this disk.
        let place = format!("--esp-path={at}");
        let relaxed = [("SYSTEMD_RELAX_ESP_CHECKS", "1")];
        tool::run_with(bootctl, &[&place, "--no-variables", "install"], &relaxed)?;
    }
    let file = format!("EFI/systemd/{}", THIS.efi.systemd_boot);
    let program = mounted.join(&file);
    let bytes = fs::read(&program).map_err(|e| Cause::file("read back", &program, e))?;
    if !bytes.starts_with(b"MZ") {
        let wrong = "is not a UEFI program".to_owned();
        return Err(Cause::NotBootable { path: program, wrong });
    }
    let fallback = mounted.join(FALLBACK);
    if !fallback.exists() {
        let directory = fallback.parent().unwrap_or(&mounted);
        fs::create_dir_all(directory).map_err(|e| Cause::file("make", directory, e))?;
        fs::write(&fallback, &bytes).map_err(|e| Cause::file("write", &fallback, e))?;
    }
    let boot = setting.root.join("boot");
    for top in [&mounted, &boot] {
        renew_copies(top, &boot, setting.names)?;
    }
    check_entries(setting, &mounted)?;
    let is_fallback = is_same(&program, &fallback).map_err(|e| Cause::file("compare", &fallback, e))?;
    register(setting, LABEL, esp, &file, is_fallback)
}

/// Kernels and initrds of entries in `top` that are copies of those in `boot` must be equally new. A hook of
/// the distribution makes the copies, and it may do nothing in a chroot.
fn renew_copies(top: &Path, boot: &Path, names: &Names<'_>) -> Result<(), Cause> {
    for entry in glob::files(top, ENTRIES)? {
        let text = read(&entry)?;
        let line = options(&text);
        if roots(&line).next().is_some() && !roots(&line).any(|value| is_systems(value, names)) {
            log::info!("{} starts another system: its files stay as they are", entry.display());
            continue;
        }
        let version = values(&text, "version").next();
        for file in values(&text, "linux").chain(values(&text, "initrd")) {
            let copy = top.join(file.trim_start_matches('/'));
            let Some(original) = original(boot, file, version).filter(|_| copy.is_file()) else { continue };
            if is_same(&copy, &original).map_err(|e| Cause::file("compare", &copy, e))? {
                continue;
            }
            log::info!("{} differs from {}: copying it again", copy.display(), original.display());
            fs::copy(&original, &copy).map_err(|e| Cause::file("copy again", &copy, e))?;
        }
    }
    Ok(())
}

/// The file in `boot` from which an entry's `file` was copied: it has the same name, or is what
/// kernel-install calls `linux` and `initrd`.
fn original(boot: &Path, file: &str, version: Option<&str>) -> Option<PathBuf> {
    let name = Path::new(file).file_name()?.to_str()?;
    let called = |version: &str| match name {
        "linux" => vec![format!("vmlinuz-{version}")],
        "initrd" => vec![format!("initrd.img-{version}"), format!("initramfs-{version}.img")],
        _ => Vec::new(),
    };
    let names = std::iter::once(name.to_owned()).chain(version.map(called).unwrap_or_default());
    names.map(|name| boot.join(name)).find(|path| path.is_file())
}

fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (BufReader::new(File::open(one)?), BufReader::new(File::open(other)?));
    loop {
        let (a, b) = (one.fill_buf()?, other.fill_buf()?);
        let both = a.len().min(b.len());
        if both == 0 {
            return Ok(a.len() == b.len());
        }
        if a.get(..both) != b.get(..both) {
            return Ok(false);
        }
        one.consume(both);
        other.consume(both);
    }
}

/// Checks that there is something to boot, and that all of it belongs to this node.
fn check_entries(setting: &Setting<'_>, esp: &Path) -> Result<(), Cause> {
    let own_id = identity::machine_id(setting.root)?;
    // The command line shown to the tools as the node's own; without a root if the golden node's entries have
    // none.
    let needs_root = roots(&read(&setting.root.join("proc/cmdline"))?).next().is_some();
    let mut found = 0;
    for top in [esp, &setting.root.join("boot")] {
        for (pattern, is_text) in [(ENTRIES, true), (UNIFIED, false)] {
            for path in glob::files(top, pattern)? {
                let text = read(&path)?;
                let fault = stranger_in(&text, setting.names, own_id.as_deref());
                let fault =
                    fault.or_else(|| root_fault(&text, setting.names, needs_root).filter(|_| is_text));
                if let Some(wrong) = fault {
                    return Err(Cause::NotBootable { path, wrong });
                }
                found += 1;
            }
        }
    }
    if found > 0 {
        return Ok(());
    }
    let wrong = "holds no entry and no unified kernel image to boot".to_owned();
    Err(Cause::NotBootable { path: esp.to_owned(), wrong })
}

/// What in an entry, or in a kernel with a built-in command line, does not belong to this node.
fn stranger_in(text: &str, names: &Names<'_>, own_id: Option<&str>) -> Option<String> {
    if let Some(golden) = names.golden_in(text) {
        return Some(format!("still names the golden node's file system {golden}"));
    }
    if text.contains(CLONES) {
        return Some(format!("has '{CLONES}' of the cloning's command line"));
    }
    let id = machine_id(text).filter(|id| own_id != Some(*id))?;
    Some(format!("fixes the machine's ID with systemd.machine_id={id}, which other machines have"))
}

/// Why an entry that starts Linux finds no root here. Variables that GRUB fills in (`$kernelopts`) cannot be
/// judged.
fn root_fault(entry: &str, names: &Names<'_>, needs_root: bool) -> Option<String> {
    let line = options(entry);
    let has = |key| values(entry, key).next().is_some();
    if !has("linux") || line.contains('$') {
        return None;
    }
    let is_nodes = |value| names.made().iter().any(|fs| is_here(value, fs));
    match roots(&line).last() {
        Some(_) if roots(&line).any(is_nodes) => None,
        Some(value) => {
            Some(format!("starts the kernel with root={value}, which is not a file system of this node"))
        }
        // Without an initrd it may not be a system at all, but a memory test, for example.
        None => (needs_root && has("initrd")).then(|| "starts the kernel without root=".to_owned()),
    }
}

/// Lossy: a unified kernel image is not text.
fn read(path: &Path) -> Result<String, Cause> {
    let bytes = fs::read(path).map_err(|e| Cause::file("read back", path, e))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::config::names::tests::{ROOT, made};
    use ka::inventory::Firmware;
    use ka::plan::BootOrder;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn entries_must_start_this_node_and_no_other() {
        let made = made();
        let names = Names::new(&made);
        let root = tempfile::tempdir().unwrap();
        let esp = root.path().join("boot/efi");
        let (firmware, order) = (Firmware::Uefi, BootOrder::Network);
        let setting = Setting {
            root: root.path(),
            disk: Path::new("/dev/vda"),
            firmware,
            order,
            require_nvram: false,
            names: &names,
        };
        let fault = || check_entries(&setting, &esp).err().map(|e| e.to_string()).unwrap_or_default();
        put(root.path(), "proc/cmdline", &format!("root=UUID={ROOT} ro\n"));
        put(root.path(), "etc/machine-id", "");
        assert!(fault().contains("holds no entry"));
        let good = format!("title x\nversion 6\noptions root=UUID={ROOT} ro\nlinux /l\ninitrd /i\n");
        put(&esp, "loader/entries/good.conf", &good);
        assert_eq!(fault(), "");
        let own = format!("root=UUID={ROOT}");
        for (options, wrong) in [
            ("root=PARTUUID=cafe0000-01 quiet", ""),
            ("root=LABEL=system", ""),
            ("root=/dev/vda1", ""),
            ("$kernelopts", ""),
            ("root=/dev/sda1", "root=/dev/sda1, which is not a file system of this node"),
            ("root=LABEL=data", "root=LABEL=data, which is not a file system of this node"),
            ("automatic=method:ka,interface:auto rw", "starts the kernel without root="),
            ("rw", "starts the kernel without root="),
            (&*format!("{own} kamethod"), "'kamethod'"),
            (&*format!("{own} systemd.machine_id={ID}"), ID),
            (&*format!("{own} systemd.machine_id=firmware"), ""),
            ("root=UUID=00000001-0000-4000-8000-000000000000", "still names the golden node's file system"),
        ] {
            put(&esp, "loader/entries/x.conf", &good.replace(&*format!("{own} ro"), options));
            let found = fault();
            assert!(found.contains(wrong) && found.is_empty() == wrong.is_empty(), "{options}: {found}");
        }
        put(&esp, "loader/entries/x.conf", "title Memory test\nlinux /memtest\noptions console=ttyS0\n");
        put(root.path(), "boot/loader/entries/y.conf", "title Windows\nefi /EFI/Microsoft/x.efi\n");
        assert_eq!(fault(), "");

        for (inside, wrong) in [
            ("quiet rw", ""),
            ("automatic=method:ka kamethod", "'kamethod'"),
            (&*format!("ro systemd.machine_id={ID}"), ID),
        ] {
            put(&esp, "EFI/Linux/x.efi", &format!("MZ\0\u{fffd}{inside}\0systemd.machine_id\0"));
            let found = fault();
            assert!(found.contains(wrong) && found.is_empty() == wrong.is_empty(), "{inside}: {found}");
        }
        // The site's own steps gave the machine this one.
        put(root.path(), "etc/machine-id", &format!("{ID}\n"));
        assert_eq!(fault(), "");
    }

    #[test]
    fn a_root_that_is_found_by_its_type_needs_no_name() {
        let made = made();
        let names = Names::new(&made);
        let entry = "linux /l\ninitrd /i\noptions rw\n";
        assert_eq!(root_fault(entry, &names, false), None);
        assert!(root_fault(entry, &names, true).is_some());
    }

    #[test]
    fn copies_on_the_system_partition_are_as_new_as_what_they_copy() {
        let root = tempfile::tempdir().unwrap();
        let (boot, esp) = (root.path().join("boot"), root.path().join("boot/efi"));
        let large = "x".repeat(100_000);
        for (path, text) in [
            ("vmlinuz-6", "kernel"),
            ("initrd.img-6", &*format!("{large}new")),
            ("amd-ucode.img", "microcode"),
            ("initramfs-5.img", "five"),
            ("vmlinuz-5", &*large),
            (
                "efi/loader/entries/a-6.conf",
                "version 6\noptions root=LABEL=system\nlinux /a/6/linux\ninitrd /amd-ucode.img\ninitrd /a/6/initrd.img-6\n",
            ),
            ("efi/loader/entries/a-5.conf", "version 5\nlinux /a/5/linux\ninitrd /a/5/initrd\n"),
            ("efi/loader/entries/other.conf", "linux /other/linux\ninitrd /initrd\n"),
            ("efi/loader/entries/b.conf", "linux /b/vmlinuz-6\noptions root=PARTUUID=cafe0000-02\n"),
            ("efi/a/6/linux", "old kernel"),
            ("efi/a/6/initrd.img-6", &*format!("{large}old")),
            ("efi/amd-ucode.img", "microcode"),
            ("efi/a/5/linux", &*large),
            ("efi/a/5/initrd", "fiv"),
            ("efi/other/linux", "other"),
            ("efi/b/vmlinuz-6", "of another system"),
            ("efi/initrd", "other"),
        ] {
            put(&boot, path, text);
        }
        let made = made();
        let names = Names::new(&made);
        renew_copies(&esp, &boot, &names).unwrap();
        let is = |path: &str, text: &str| {
            let found = fs::read_to_string(esp.join(path)).unwrap();
            assert!(found == text, "{path}: {} bytes", found.len());
        };
        is("a/6/linux", "kernel");
        is("a/6/initrd.img-6", &format!("{large}new"));
        is("amd-ucode.img", "microcode");
        is("a/5/linux", &large);
        is("a/5/initrd", "five");
        is("other/linux", "other");
        is("initrd", "other");
        is("b/vmlinuz-6", "of another system");

        // A system partition at /boot: the entry's file is the one that was built.
        put(&boot, "loader/entries/b.conf", "linux /vmlinuz-6\ninitrd /initrd.img-6\n");
        renew_copies(&boot, &boot, &names).unwrap();
        assert_eq!(fs::read_to_string(boot.join("vmlinuz-6")).unwrap(), "kernel");
    }
}
