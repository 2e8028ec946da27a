//! The image for unusual kernels: versions with unusual characters, modules in any compression format, and
//! missing or failing tools.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ka_tests::{kernel, root, static_agent, succeed};

/// Versions as printed by `uname -r`.
const VERSIONS: [&str; 20] = [
    "5.10.0-32-cloud-amd64",
    "6.1.0-50-amd64",
    "6.12.117+deb13-cloud-amd64",
    "6.12.43+deb12-amd64",
    "7.2.13+deb14-amd64",
    "6.6.8+rpt-rpi-v8",
    "5.4.0-216-generic",
    "6.8.0-57-lowlatency",
    "6.11.0-1011-azure-fde",
    "3.10.0-1160.119.1.el7.x86_64",
    "4.18.0-553.el8_10.x86_64",
    "5.14.0-503.40.1.el9_5.x86_64+rt",
    "6.12.0-55.el10.x86_64+64k",
    "6.14.4-200.fc41.x86_64",
    "5.14.21-150500.55.94-default",
    "6.4.0-150600.23.47-azure",
    "6.14.4-1-default",
    "6.14.5-arch1-1",
    "6.12.25-1-lts",
    "6.1.0(x)[y]*.$^{2}|a?'b\\\"",
];

/// Some modules of Debian's full kernel, enough for a chain of dependencies, under another version.
fn small_kernel(folder: &Path, version: &str, packer: &str) -> PathBuf {
    let real = kernel::debian("linux-image-amd64");
    let modules = folder.join("modules").join(version);
    let lay = "to=$2; cd \"$1\"; mkdir -p \"$to\"; cp modules.order modules.builtin modules.builtin.modinfo \"$to\"
        cp --parents -t \"$to\" kernel/drivers/net/ethernet/intel/e1000/e1000.ko kernel/drivers/net/mii.ko \\
            kernel/drivers/net/usb/r8152.ko kernel/drivers/usb/core/usbcore.ko kernel/drivers/usb/common/usb-common.ko \\
            kernel/drivers/net/tun.ko kernel/fs/ext4/ext4.ko kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko \\
            kernel/fs/quota/quota_v2.ko kernel/fs/quota/quota_tree.ko kernel/net/8021q/8021q.ko \\
            kernel/net/802/garp.ko kernel/net/802/mrp.ko kernel/net/802/stp.ko kernel/net/llc/llc.ko \\
            kernel/crypto/crc32c_generic.ko kernel/lib/crc16.ko
        [ -z \"$3\" ] || find \"$to\" -name '*.ko' -exec $3 {} +";
    succeed(Command::new("sh").args(["-euc", lay, "sh"]).arg(&real.modules).arg(&modules).arg(packer));
    modules
}

/// Builds both halves, and returns the names of the modules in them.
fn modules_of_both(folder: &Path, modules: &Path) -> (Vec<String>, Vec<String>) {
    fs::write(folder.join("vmlinuz"), "a kernel").expect("a temporary file");
    fs::write(folder.join("key"), "a key").expect("a temporary file");
    let (out, tree) = (folder.join("out"), folder.join("stage2"));
    let mut rdz = Command::new(root().join("initramfs/make-rdz"));
    rdz.arg(folder.join("vmlinuz")).arg(modules).args(["/".as_ref(), static_agent().as_path()]);
    succeed(rdz.arg(folder.join("key")).arg(&out));
    let mut stage2 = Command::new(root().join("initramfs/make-stage2"));
    succeed(stage2.arg(modules).args(["/".as_ref(), static_agent().as_path()]).arg(&tree));
    let names = |list: String| {
        let mut names: Vec<_> =
            list.lines().filter_map(|l| l.rsplit('/').next()).map(str::to_owned).collect();
        names.retain(|name| name.contains(".ko"));
        names.sort();
        names
    };
    let unpack = "xz -dcq \"$1\" | { cpio --quiet -t; cpio --quiet -t; }";
    let first = succeed(Command::new("sh").args(["-c", unpack, "sh"]).arg(out.join("stage1.rdz")));
    let second = succeed(Command::new("find").arg(&tree).args(["-name", "*.ko*"]));
    // Where every loader looks: a directory named after the version.
    assert!(
        tree.join("lib/modules").join(modules.file_name().expect("a version")).join("modules.dep").exists()
    );
    (names(first), names(second))
}

const STAGE1: [&str; 10] = [
    "8021q.ko",
    "e1000.ko",
    "garp.ko",
    "llc.ko",
    "mii.ko",
    "mrp.ko",
    "r8152.ko",
    "stp.ko",
    "usb-common.ko",
    "usbcore.ko",
];
const STAGE2: [&str; 7] =
    ["crc16.ko", "crc32c_generic.ko", "ext4.ko", "jbd2.ko", "mbcache.ko", "quota_tree.ko", "quota_v2.ko"];

#[test]
fn a_version_is_found_whatever_letters_it_has() {
    for version in VERSIONS {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let (stage1, stage2) = modules_of_both(folder.path(), &small_kernel(folder.path(), version, ""));
        assert_eq!(
            (stage1, stage2),
            (STAGE1.map(str::to_owned).to_vec(), STAGE2.map(str::to_owned).to_vec()),
            "{version}"
        );
    }
}

#[test]
fn modules_are_found_however_they_are_compressed() {
    // Debian's kmod, which has to read them here, does not support gzip.
    for packer in ["xz -q", "zstd -q --rm"] {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let modules = small_kernel(folder.path(), "6.12.117+deb13-cloud-amd64", packer);
        let (stage1, stage2) = modules_of_both(folder.path(), &modules);
        assert_eq!(
            (stage1, stage2),
            (STAGE1.map(str::to_owned).to_vec(), STAGE2.map(str::to_owned).to_vec()),
            "{packer}"
        );
    }
}

/// A search path with this machine's tools except for some.
fn path_without(folder: &Path, absent: &[&str]) -> PathBuf {
    let bin = folder.join("bin");
    fs::create_dir(&bin).expect("a temporary directory");
    for place in ["/usr/bin", "/usr/sbin", "/bin", "/sbin"] {
        for tool in fs::read_dir(place).expect("a directory of programs") {
            let tool = tool.expect("a directory can be read");
            if !absent.iter().any(|name| tool.file_name() == **name) {
                // The first one wins, as in a search path.
                let _ = symlink(tool.path(), bin.join(tool.file_name()));
            }
        }
    }
    bin
}

/// Runs a script of initramfs/ with the programs of `path` only: the scripts add their own directories to it.
fn with_path(script: &str, path: &Path, arguments: &[&Path]) -> Output {
    let copy = path.parent().expect("a folder").join("initramfs");
    succeed(Command::new("cp").arg("-r").arg(root().join("initramfs")).arg(&copy));
    let common = copy.join("common.sh");
    let text = fs::read_to_string(&common).expect("it is there").replace("PATH=$PATH:/usr/sbin:/sbin\n", "");
    fs::write(&common, text).expect("a temporary file");
    Command::new(copy.join(script)).args(arguments).env("PATH", path).output().expect("the script runs")
}

#[test]
fn everything_that_is_missing_is_told_at_once_with_its_package() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let modules = small_kernel(folder.path(), "6.1.0", "zstd -q --rm");
    let path = path_without(folder.path(), &["xz", "zstd", "modinfo", "cpio"]);
    let golden = folder.path().join("golden");
    succeed(
        Command::new("sh")
            .args(["-euc", "mkdir -p \"$1/bin\"; cp \"$(command -v busybox)\" \"$1/bin/sh\"", "sh"])
            .arg(&golden),
    );
    let output = with_path("check", &path, &[&modules, &golden]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    for (tool, package) in [
        ("xz", "xz-utils"),
        ("zstd", "zstd"),
        ("modinfo", "kmod"),
        ("cpio", "cpio"),
        ("mke2fs", "e2fsprogs"),
        ("sfdisk", "fdisk"),
    ] {
        let line = text.lines().find(|line| line.starts_with(&format!("{tool} is missing")));
        assert!(
            line.is_some_and(|line| line.ends_with(&format!("apt-get install {package}"))),
            "{tool}: {text}"
        );
    }
    assert!(!text.contains("gzip"), "nothing here is compressed with it: {text}");
    assert!(!text.contains("depmod is missing: "), "it is there: {text}");
}

#[test]
fn the_readme_names_every_package() {
    let readme = fs::read_to_string(root().join("README.md")).expect("it is there");
    let (_, command) = readme.split_once("apt-get install dnsmasq-base").expect("the golden node's packages");
    let (packages, _) = command.split_once("```").expect("the command is a block of its own");
    let named: Vec<_> = packages.split_whitespace().collect();
    let list = fs::read_to_string(root().join("initramfs/tools")).expect("it is there");
    // Included in every Debian installation, however small.
    let always = ["coreutils", "findutils", "gzip", "libc-bin", "mawk", "mount", "util-linux"];
    for line in list.lines().filter(|line| line.starts_with("here ") || line.starts_with("node ")) {
        let package = line.split_whitespace().nth(2).expect("WHO TOOL PACKAGE");
        assert!(named.contains(&package) || always.contains(&package), "{package} is not in the README");
    }
}

#[test]
fn a_tool_that_fails_ends_the_script_with_its_own_words() {
    for (tool, words) in [
        ("xz", "xz: no space"),
        ("depmod", "depmod: a bad day"),
        ("modprobe", "modprobe: no"),
        ("cpio", "cpio: no"),
    ] {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let modules = small_kernel(folder.path(), "6.12.117+deb13-amd64", "xz -q");
        let path = path_without(folder.path(), &[tool]);
        let fake = path.join(tool);
        fs::write(&fake, format!("#!/bin/sh\necho '{words}' >&2\nexit 3\n")).expect("a temporary file");
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).expect("a temporary file");
        for name in ["vmlinuz", "key"] {
            fs::write(folder.path().join(name), name).expect("a temporary file");
        }
        let (vmlinuz, key, out) =
            (folder.path().join("vmlinuz"), folder.path().join("key"), folder.path().join("out"));
        let output =
            with_path("make-rdz", &path, &[&vmlinuz, &modules, Path::new("/"), &static_agent(), &key, &out]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{tool} failed, and the script went on");
        assert!(text.contains(words), "{tool}: {text}");
        assert!(
            text.lines().filter(|line| line.contains(words)).count() <= 2,
            "{tool}: it went on after that: {text}"
        );
        assert!(!out.join("all.rdz").exists(), "{tool}: an image was made all the same");
    }
}

/// On a slow machine each process takes hundredths of a second, and decompression is at its slowest: the
/// image of a kernel with compressed modules must cost little more than its own compression. Processor time
/// is measured, because it is independent of the machine's load.
#[test]
fn the_image_costs_little_more_than_its_compression() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let real = kernel::debian("linux-image-cloud-amd64");
    let modules = folder.path().join("6.1.0+packed");
    let lay = "cp -r \"$1\" \"$2\"; find \"$2\" -name '*.ko' -print0 | xargs -0 -P 2 -n 20 xz -q -1; depmod_at=$(dirname \"$2\")
        mkdir -p \"$depmod_at/base/lib/modules\"; mv \"$2\" \"$depmod_at/base/lib/modules/\"
        depmod -b \"$depmod_at/base\" \"$(basename \"$2\")\"; mv \"$depmod_at/base/lib/modules\"/* \"$2\"";
    succeed(Command::new("sh").args(["-euc", lay, "sh"]).args([&real.modules, &modules]));
    for name in ["vmlinuz", "key"] {
        fs::write(folder.path().join(name), name).expect("a temporary file");
    }
    let seconds = |script: &str, arguments: &[&Path]| -> f64 {
        let timed = "\"$@\" >/dev/null; awk '{ print ($16 + $17) / 100 }' /proc/$$/stat";
        let mut command = Command::new("sh");
        command.args(["-euc", timed, "sh"]).arg(script).args(arguments);
        succeed(&mut command).trim().parse().expect("a number of seconds")
    };
    let (vmlinuz, key, out) =
        (folder.path().join("vmlinuz"), folder.path().join("key"), folder.path().join("out"));
    let make = root().join("initramfs/make-rdz").display().to_string();
    let image = seconds(&make, &[&vmlinuz, &modules, Path::new("/"), &static_agent(), &key, &out]);
    let plain = folder.path().join("plain");
    succeed(
        Command::new("sh")
            .args(["-c", "xz -dc \"$1\" >\"$2\"", "sh"])
            .args([&out.join("stage1.rdz"), &plain]),
    );
    let compression = seconds("xz", &[Path::new("-6"), Path::new("-c"), &plain]);
    assert!(image <= 2.5 * compression, "{image} s for the image, {compression} s for its compression");
}
