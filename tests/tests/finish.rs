//! The finish of a copied system whose tools are stand-ins, in a real chroot with a real disk.
//!
//! Needs root, loop devices, and Debian's busybox-static. The true tools are tried in virtual machines.
#![allow(clippy::unwrap_used, reason = "clippy takes helpers of tests for production code")]

use ka::inventory::Firmware;
use ka::plan::{
    After, BootPlan, FileSystemKind, FileSystemPlan, FinishPlan, FirstBoot, GoldenHost, GoldenMachine,
    GoldenNames, Kernels, Loader, NodeAddress, NodeName, Plan, Storage,
};
use ka_agent::disk::{BootCode, MadeFileSystem, MadeOn};
use ka_agent::finish::{self, Cause, FinishError, LastWrites, Machine};
use ka_host::hardware::CardModules;
use ka_tests::loop_device::{Loop, MIB};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use tempfile::TempDir;

const GOLDEN: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const NEW: &str = "bbbbbbbb-0000-4000-8000-000000000002";

/// Holds what the configuration asks for, one module a line, as a listing would name them.
const UPDATE_INITRAMFS: &str = r#"#!/bin/sh
echo "building for $3"
{ echo kernel/ext4.ko; sed -n 's|^[a-z].*|kernel/&.ko|p' /etc/initramfs-tools/modules; } > "/boot/initrd.img-$3"
"#;

const LSINITRAMFS: &str = "#!/bin/sh\ncat \"$1\"\n";

/// Makes GRUB's files, and leaves the disk alone only when told to.
const GRUB_INSTALL: &str = r#"#!/bin/sh
set -e
mkdir -p /boot/grub/i386-pc
printf core > /boot/grub/i386-pc/core.img
cp /usr/lib/boot.img /boot/grub/i386-pc/boot.img
cp /boot/grub/normal.mod /boot/grub/new && mv /boot/grub/new /boot/grub/normal.mod
[ "$2" = --no-bootsector ] || dd if=/usr/lib/boot.img of="$2" bs=440 count=1 conv=notrunc
"#;

/// Embeds the core, and writes the boot image that it is given, filled in, around the table.
const GRUB_BIOS_SETUP: &str = r#"#!/bin/sh
set -e
dir=${1#--directory=} image=${2#--boot-image=} disk=$3
dd if="$dir/core.img" of="$disk" bs=512 seek=1 conv=notrunc
dd if="$dir/$image" of="$disk" bs=440 count=1 conv=notrunc
dd if="$dir/$image" of="$disk" bs=1 skip=510 seek=510 count=2 conv=notrunc
printf '\001' | dd of="$disk" bs=1 seek=92 conv=notrunc
printf '\377' | dd of="$disk" bs=1 seek=100 conv=notrunc
printf '\220\220' | dd of="$disk" bs=1 seek=102 conv=notrunc
"#;

/// Falls back to the device's name where udev's link is missing, as the real one does.
const GRUB_MKCONFIG: &str = r#"#!/bin/sh
root=$(sed -n 's|^UUID=\([^ ]*\) / .*|\1|p' /etc/fstab)
if [ -e "/dev/disk/by-uuid/$root" ]; then root=UUID=$root; else root=/dev/sda1; fi
echo "linux /boot/vmlinuz-6 root=$root ro" > "$2"
"#;

/// Code in all bytes, with the name that GRUB's has in it.
fn boot_image() -> [u8; 512] {
    let mut image = [0xeb; 512];
    image[384..388].copy_from_slice(b"GRUB");
    image
}

/// A copied system, unpacked.
struct Copied {
    directory: TempDir,
    disk: Loop,
}

impl Copied {
    fn new() -> Self {
        let copied = Self { directory: tempfile::tempdir().unwrap(), disk: Loop::new(MIB, 512) };
        let root = copied.root();
        for directory in ["bin", "usr/sbin", "usr/lib", "boot/grub", "etc/initramfs-tools", "lib/modules/6"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is needed for this test");
        for tool in ["sh", "cat", "sed", "dd", "cp", "mv", "mkdir", "sleep", "printf", "awk", "env", "rm"] {
            symlink("busybox", root.join("bin").join(tool)).unwrap();
        }
        copied.tool("update-initramfs", UPDATE_INITRAMFS);
        copied.tool("lsinitramfs", LSINITRAMFS);
        copied.tool("grub-install", GRUB_INSTALL);
        copied.tool("grub-bios-setup", GRUB_BIOS_SETUP);
        copied.tool("grub-mkconfig", GRUB_MKCONFIG);
        fs::write(root.join("usr/lib/boot.img"), boot_image()).unwrap();
        for (file, text) in [
            ("boot/vmlinuz-6", ""),
            ("boot/initrd.img-6", "kernel/ext4.ko\n"),
            ("boot/grub/normal.mod", "module"),
            ("lib/modules/6/modules.dep", "kernel/ext4.ko:\nkernel/nvme.ko: kernel/nvme-core.ko\n"),
            ("etc/initramfs-tools/modules", "# List\n"),
            ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ] {
            fs::write(root.join(file), text).unwrap();
        }
        fs::write(root.join("etc/fstab"), format!("UUID={GOLDEN} / ext4 defaults 0 1\n")).unwrap();
        copied
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn tool(&self, name: &str, script: &str) {
        let path = self.root().join("usr/sbin").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.root().join(file)).unwrap()
    }

    /// By GRUB from a BIOS.
    fn finish(&self, hardware: &[&str]) -> Result<Option<BootCode>, FinishError> {
        let hardware = hardware.iter().map(|&module| module.to_owned()).collect();
        let machine = Machine { storage_modules: hardware, ..Machine::default() };
        Ok(self.finish_as(&plan(Loader::Grub), &machine)?.boot_code)
    }

    fn finish_as(&self, plan: &Plan, machine: &Machine) -> Result<LastWrites, FinishError> {
        self.finish_with(plan, machine, Vec::new())
    }

    /// With more file systems than the root.
    fn finish_with(
        &self,
        plan: &Plan,
        machine: &Machine,
        mut made: Vec<MadeFileSystem>,
    ) -> Result<LastWrites, FinishError> {
        made.push(MadeFileSystem {
            plan: FileSystemPlan {
                mount_point: Some("/".to_owned()),
                golden: Some(GoldenNames {
                    uuid: Some(GOLDEN.to_owned()),
                    partuuid: None,
                    label: None,
                    devices: vec!["/dev/sda1".to_owned()],
                    kind: None,
                }),
                ..FileSystemPlan::new(FileSystemKind::Ext4)
            },
            device: self.disk.node().into(),
            on: MadeOn::Partition(1),
            uuid: NEW.to_owned(),
            partuuid: "bbbbbbbb-01".to_owned(),
        });
        let disk = Path::new(self.disk.node());
        let copied = finish::Copied { root: self.root(), plan, made: &made, raw: &[], disk, machine };
        let outcome = finish::finish(&copied);
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let root = self.root().to_str().unwrap();
        assert!(!mounts.lines().any(|line| line.contains(root)), "something is still mounted");
        assert!(!Path::new("/dev/disk/by-uuid").join(NEW).exists());
        outcome
    }

    /// The EFI system partition: a directory here.
    fn esp(&self) -> MadeFileSystem {
        MadeFileSystem {
            plan: FileSystemPlan {
                mount_point: Some("/boot/efi".to_owned()),
                ..FileSystemPlan::new(FileSystemKind::Vfat)
            },
            device: self.disk.node().into(),
            on: MadeOn::Partition(2),
            uuid: "ABCD-1234".to_owned(),
            partuuid: "bbbbbbbb-02".to_owned(),
        }
    }

    fn fail(&self) -> String {
        self.finish(&[]).unwrap_err().to_string()
    }
}

fn plan(loader: Loader) -> Plan {
    Plan {
        run: "r1".to_owned(),
        storage: Storage::default(),
        boot: BootPlan::new(loader, Firmware::Bios),
        finish: FinishPlan::default(),
        after: After::Reboot,
    }
}

#[test]
fn a_copied_system_boots_as_this_node() {
    let copied = Copied::new();
    let mtime = |file: &str| {
        let metadata = fs::metadata(copied.root().join(file)).unwrap();
        (metadata.mtime(), metadata.mtime_nsec())
    };
    let unchanged = ["boot", "boot/grub", "boot/grub/normal.mod", "etc", "etc/initramfs-tools", "."];
    let before = unchanged.map(mtime);

    let BootCode(code) = copied.finish(&["nvme", "of_another_kernel"]).unwrap().unwrap();

    assert_eq!(copied.read("etc/fstab"), format!("UUID={NEW} / ext4 defaults 0 1\n"));
    assert_eq!(copied.read("etc/machine-id"), "");
    assert_eq!(copied.read("boot/initrd.img-6"), "kernel/ext4.ko\nkernel/nvme.ko\n");
    assert!(copied.read("boot/grub/grub.cfg").contains(&format!("root=UUID={NEW} ")));
    assert!(copied.disk.read(0, 440).iter().all(|byte| *byte == 0), "boot code before the last write");
    assert_eq!(copied.disk.read(510, 6), b"\x55\xaacore");
    let mut filled_in = boot_image();
    filled_in[92..104].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xeb, 0x90, 0x90]);
    assert_eq!(code, filled_in[..440]);
    assert_eq!(unchanged.map(mtime), before);
}

#[test]
fn tools_that_succeed_and_did_nothing_are_failures() {
    for (tool, complaint) in [
        (
            "update-initramfs",
            "Rebuild the initrd: /boot/initrd.img-6 was not rebuilt, though update-initramfs",
        ),
        ("grub-install", "cannot read /boot/grub/i386-pc/boot.img"),
        ("grub-bios-setup", "has no boot signature in its first sector"),
        ("grub-mkconfig", "Install the boot loader: cannot read back /boot/grub/grub.cfg"),
    ] {
        let copied = Copied::new();
        copied.tool(tool, "#!/bin/sh\nexit 0\n");
        let error = copied.fail();
        assert!(error.contains(complaint), "{error}");
    }
    let copied = Copied::new();
    copied.tool("grub-mkconfig", &format!("#!/bin/sh\necho root=UUID={GOLDEN} > $2\n"));
    let error = copied.fail();
    assert!(error.contains(&format!("still names the golden node's file system {GOLDEN}")), "{error}");
}

#[test]
fn a_failing_tool_is_told_with_its_output() {
    let copied = Copied::new();
    copied.tool("grub-install", "#!/bin/sh\necho 'error: embedding is not possible' >&2\nexit 1\n");
    let error = copied.fail();
    let disk = copied.disk.node();
    assert_eq!(
        error,
        format!(
            "Install the boot loader: grub-install --target=i386-pc --no-bootsector {disk}: exit status: 1\n\
             error: embedding is not possible"
        )
    );
    drop(copied);
    let copied = Copied::new();
    fs::remove_file(copied.root().join("usr/sbin/grub-install")).unwrap();
    assert_eq!(
        copied.fail(),
        "Install the boot loader: the copied system has no grub-install or grub2-install"
    );
}

#[test]
fn what_a_tool_leaves_running_is_named() {
    let copied = Copied::new();
    copied.tool("update-grub", &GRUB_MKCONFIG.replace("$2", "/boot/grub/grub.cfg"));
    copied.tool(
        "grub-install",
        &GRUB_INSTALL
            .replace("set -e", "set -e\nsleep 600 </dev/null >/dev/null 2>&1 &\necho $! >/boot/pid\n"),
    );
    let error = copied.finish(&[]).unwrap_err();
    let pid = copied.read("boot/pid");
    std::process::Command::new("kill").arg(pid.trim()).status().unwrap();
    let Cause::Busy { users, .. } = &error.cause else { panic!("{error}") };
    assert_eq!(users, &[format!("{} sleep", pid.trim())]);
}

/// Reads lilo.conf by its manual: `boot`, and for each `image` a `root` (its own or the global one), an `initrd` if one
/// is named, and a `label`. What is named must be there. Then the boot sector is written, with the name where
/// LILO's is.
const LILO: &str = r#"#!/bin/sh
set -e
[ "$*" = -v ]
sed -e 's/#.*//' -e 's/^[ \t]*//' -e 's/[ \t]*$//' -e 's/[ \t]*=[ \t]*/=/' -e '/^$/d' /etc/lilo.conf > /boot/parsed
boot= root= image=
while IFS= read -r line; do
    key=${line%%=*} value=${line#*=}
    case $value in '"'*'"') value=${value#?} value=${value%?} ;; esac
    case $key in
    boot) boot=$value; [ -b "$boot" ] || { echo "Fatal: open $boot: No such device" >&2; exit 1; } ;;
    root) root=$value ;;
    image) image=$value; [ -f "$image" ] || { echo "Fatal: open $image" >&2; exit 1; } ;;
    initrd) [ -f "$value" ] || { echo "Fatal: open $value" >&2; exit 1; } ;;
    label) [ -n "$image" ] && echo "Added $value" ;;
    lba32|prompt|read-only|append|timeout|default|install|map|vga|compact) ;;
    *) echo "Unrecognized token \"$key\"" >&2; exit 1 ;;
    esac
done < /boot/parsed
rm /boot/parsed
case $root in
/dev/*) [ -b "$root" ] || { echo "Fatal: open $root" >&2; exit 1; } ;;
UUID=*) [ -e "/dev/disk/by-uuid/${root#UUID=}" ] || { echo "Fatal: $root" >&2; exit 1; } ;;
esac
printf 'map' > /boot/map
printf '\372\353\041\001\264\001LILO' | dd of="$boot" conv=notrunc
"#;

const LILO_CONF: &str = "\
# LILO configuration file
boot = /dev/sda
lba32
prompt
timeout=50
root=\"UUID=aaaaaaaa-0000-4000-8000-000000000001\"

image=/boot/vmlinuz-6
\tlabel=\"Linux 6\"
\tinitrd=/boot/initrd.img-6
\tappend=\"root=/dev/sda1 quiet\"
\tread-only
";

#[test]
fn lilo_is_made_anew_and_handed_back() {
    let copied = Copied::new();
    copied.tool("lilo", LILO);
    fs::write(copied.root().join("etc/lilo.conf"), LILO_CONF).unwrap();

    let last = copied.finish_as(&plan(Loader::Lilo), &Machine::default()).unwrap();

    let node = copied.disk.node();
    let expected = LILO_CONF
        .replace("/dev/sda\n", &format!("{node}\n"))
        .replace("root=/dev/sda1", &format!("root=UUID={NEW}"))
        .replace(GOLDEN, NEW);
    assert_eq!(copied.read("etc/lilo.conf"), expected);
    assert_eq!(&last.boot_code.unwrap().0[6..10], b"LILO");
    assert!(copied.disk.read(0, 440).iter().all(|byte| *byte == 0), "boot code before the last write");

    // A disk of which nothing was cloned.
    let foreign = copied.disk.another(MIB, 512);
    let other = LILO_CONF.replace("/dev/sda\n", &format!("{}\n", foreign.node()));
    fs::write(copied.root().join("etc/lilo.conf"), other).unwrap();
    let error = copied.finish_as(&plan(Loader::Lilo), &Machine::default()).unwrap_err().to_string();
    assert!(error.contains("which is neither this node's disk"), "{error}");
    assert!(foreign.read(0, 512).iter().all(|byte| *byte == 0));
    drop(foreign);

    fs::write(copied.root().join("etc/lilo.conf"), LILO_CONF.replace("vmlinuz-6", "vmlinuz-5")).unwrap();
    let error = copied.finish_as(&plan(Loader::Lilo), &Machine::default()).unwrap_err().to_string();
    assert!(error.contains("lilo -v: exit status: 1") && error.contains("open /boot/vmlinuz-5"), "{error}");
    assert!(copied.disk.read(0, 440).iter().all(|byte| *byte == 0));
}

/// Understands `setup`, and tells of errors as the real one does: by text alone.
const GRUB: &str = r#"#!/bin/sh
map=${3#--device-map=}
read -r root && read -r setup
disk=$(sed -n 's/^(hd0)[ \t]*//p' "$map")
echo "grub> $root"
case $setup in 'setup (hd0)') ;; *) printf '\nError 27: Unrecognized command\n'; exit 0 ;; esac
[ -b "$disk" ] || { printf '\nError 21: Selected disk does not exist\n'; exit 0; }
echo ' Running "install /boot/grub/stage1 (hd0) /boot/grub/stage2"... succeeded'
printf '\353\110GRUB' | dd of="$disk" conv=notrunc 2>/dev/null
"#;

#[test]
fn grub_legacy_is_embedded_and_handed_back() {
    let copied = Copied::new();
    copied.tool("grub", GRUB);
    let menu = "# kopt=root=/dev/sda1 ro\n# groot=(hd0,0)\ntitle x\nroot (hd0,0)\nkernel /boot/vmlinuz-6 root=/dev/sda1 ro\n";
    fs::write(copied.root().join("boot/grub/menu.lst"), menu).unwrap();
    fs::write(copied.root().join("boot/grub/device.map"), "(hd0) /dev/sda\n").unwrap();

    let last = copied.finish_as(&plan(Loader::GrubLegacy), &Machine::default()).unwrap();

    assert_eq!(copied.read("boot/grub/menu.lst"), menu.replace("/dev/sda1", &format!("UUID={NEW}")));
    assert_eq!(&last.boot_code.unwrap().0[2..6], b"GRUB");
    assert!(copied.disk.read(0, 440).iter().all(|byte| *byte == 0), "boot code before the last write");

    copied.tool("grub", "#!/bin/sh\necho; echo 'Error 15: File not found'\n");
    let error = copied.finish_as(&plan(Loader::GrubLegacy), &Machine::default()).unwrap_err().to_string();
    assert!(error.contains("Error 15: File not found"), "{error}");
}

#[test]
fn extlinux_starts_from_the_disks_code() {
    let copied = Copied::new();
    copied.tool("extlinux", "#!/bin/sh\n[ \"$1\" = --install ] && echo x > \"$2/ldlinux.sys\"\n");
    fs::create_dir_all(copied.root().join("boot/extlinux")).unwrap();
    fs::create_dir_all(copied.root().join("usr/lib/EXTLINUX")).unwrap();
    fs::write(copied.root().join("usr/lib/EXTLINUX/mbr.bin"), [0x33; 440]).unwrap();
    let configuration = copied.root().join("boot/extlinux/extlinux.conf");
    fs::write(&configuration, format!("append root=UUID={GOLDEN} ro\n")).unwrap();

    let last = copied.finish_as(&plan(Loader::Extlinux), &Machine::default()).unwrap();

    assert_eq!(copied.read("boot/extlinux/extlinux.conf"), format!("append root=UUID={NEW} ro\n"));
    assert_eq!(last.boot_code.unwrap().0, [0x33; 440]);
    copied.tool("extlinux", "#!/bin/sh\nexit 0\n");
    fs::remove_file(copied.root().join("boot/extlinux/ldlinux.sys")).unwrap();
    let error = copied.finish_as(&plan(Loader::Extlinux), &Machine::default()).unwrap_err().to_string();
    assert!(error.contains("ldlinux.sys is missing, though extlinux succeeded"), "{error}");
}

#[test]
fn without_a_loader_nothing_is_written_to_the_disk() {
    let copied = Copied::new();
    let last = copied.finish_as(&plan(Loader::None), &Machine::default()).unwrap();
    assert_eq!(last.boot_code, None);
    assert_eq!(copied.read("etc/fstab"), format!("UUID={NEW} / ext4 defaults 0 1\n"));
    assert!(copied.disk.read(0, 4096).iter().all(|byte| *byte == 0));
}

/// Remembers what it was told, and its environment.
const HOOK: &str = "#!/bin/sh\necho from the site\nenv | sed -n 's/^KA_/KA_/p' > /etc/hook\n";

#[test]
fn a_node_becomes_a_machine_of_its_own() {
    let copied = Copied::new();
    let root = copied.root();
    for (file, text) in [
        ("etc/hostname", "golden\n"),
        ("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 golden\n"),
        ("etc/network/interfaces", "auto eth0\niface eth0 inet static\n    address 10.0.0.1/24\n"),
        ("etc/ssh/ssh_host_ed25519_key", "golden secret"),
        ("etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 AAAA root@golden"),
        ("var/log/wtmp", "logins"),
        ("etc/modprobe.d/site.conf", "options x y=1\n"),
        ("usr/lib/systemd/systemd", ""),
        ("etc/ka/finish.d/10-site", HOOK),
        ("etc/ka/finish.d/20-notes", "no program\n"),
    ] {
        fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        fs::write(root.join(file), text).unwrap();
    }
    fs::set_permissions(root.join("etc/ka/finish.d/10-site"), fs::Permissions::from_mode(0o755)).unwrap();
    copied.tool("ssh-keygen", "#!/bin/sh\n[ \"$*\" = '-q -t ed25519 -N  -C root@node7 -f /etc/ssh/ssh_host_ed25519_key' ]\necho own > \"$9\"; printf public > \"$9.pub\"\n");
    let agent = root.join("agent");
    fs::write(&agent, "static").unwrap();
    let mut plan = plan(Loader::Grub);
    plan.finish = FinishPlan {
        name: Some(NodeName {
            hostname: "node7".to_owned(),
            address: Some(NodeAddress { address: [10, 0, 0, 7].into(), prefix: None, gateway: None }),
            cards: Vec::new(),
        }),
        golden: GoldenHost { address: Some([10, 0, 0, 1].into()), ..GoldenHost::default() },
        machine: GoldenMachine::default(),
        first_boot: Some(FirstBoot { controller: "10.0.0.1:80".to_owned(), token: "secret".to_owned() }),
        store_log_password: None,
    };
    let machine = Machine {
        storage_modules: vec!["nvme".to_owned()],
        cards: vec![CardModules { interface: "eth0".to_owned(), modules: vec!["virtio_net".to_owned()] }],
        mac: Some("52:54:00:00:00:07".parse().unwrap()),
        address: Some([10, 0, 0, 99].into()),
        agent: Some(agent),
        ..Machine::default()
    };

    copied.finish_as(&plan, &machine).unwrap();

    assert_eq!(copied.read("etc/hostname"), "node7\n");
    assert_eq!(copied.read("etc/hosts"), "127.0.0.1 localhost\n10.0.0.7\tnode7\n");
    assert!(copied.read("etc/network/interfaces").ends_with("    address 10.0.0.7/24\n"));
    assert_eq!(copied.read("var/log/wtmp"), "");
    assert_ne!(copied.read("etc/ssh/ssh_host_ed25519_key"), "golden secret");
    assert!(
        copied
            .read("etc/modprobe.d/ka.conf")
            .ends_with("alias eth0 virtio_net\nalias scsi_hostadapter nvme\n")
    );
    let facts = copied.read("etc/hook");
    for fact in [
        "KA_RUN=r1",
        "KA_HOSTNAME=node7",
        "KA_MAC=52:54:00:00:00:07",
        "KA_ADDRESS=10.0.0.99",
        "KA_INTERFACE=eth0",
        &format!("KA_DISK={}", copied.disk.node()),
        &format!("KA_ROOT_UUID={NEW}"),
        "KA_FIRMWARE=bios",
        "KA_LOADER=grub",
    ] {
        assert!(facts.lines().any(|line| line == fact), "{fact} is missing in:\n{facts}");
    }
    assert_eq!(copied.read("var/lib/ka-first-boot/ka-agent"), "static");
    assert_eq!(copied.read("var/lib/ka-first-boot/message"), "10.0.0.1:80\nsecret\n");
    assert!(
        copied
            .read("etc/systemd/system/multi-user.target.wants/ka-first-boot.service")
            .contains("ka-agent booted")
    );
}

#[test]
fn a_failing_step_of_the_site_fails_the_node() {
    let copied = Copied::new();
    let hook = copied.root().join("etc/ka/finish.d/10-site");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\necho no licence for this machine >&2\nexit 4\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        copied.fail(),
        "Run the site's own steps: /etc/ka/finish.d/10-site: exit status: 4\nno licence for this machine"
    );
}

/// Arch's and Red Hat's old tools: listings as theirs, and what is asked for is in.
const MKINITCPIO: &str = r#"#!/bin/sh
set -e
[ "$1" = -p ]
{ echo usr/lib/modules/6/ext4.ko.zst; sed -n 's/^MODULES+=(\(.*\))/\1/p' /etc/mkinitcpio.conf | sed 's/ /\n/g' | sed 's|.*|usr/lib/modules/6/&.ko.zst|'; } > "/boot/initramfs-$2.img"
"#;
const MKINITRD: &str = r#"#!/bin/sh
set -e
for word; do case $word in --with=*) list="$list ${word#--with=}" ;; -*) ;; *) [ -n "$image" ] || image=$word ;; esac; done
mkdir -p /boot/tree/lib
for module in ext4 $list; do echo > "/boot/tree/lib/$module.ko"; done
cd /boot/tree
find . | cpio -o -H newc | gzip > "$image"
rm -r /boot/tree
"#;

#[test]
fn every_distributions_tool_builds_the_initrd() {
    let other = |tools: &[(&str, &str)]| {
        let copied = Copied::new();
        for old in ["update-initramfs", "lsinitramfs"] {
            fs::remove_file(copied.root().join("usr/sbin").join(old)).unwrap();
        }
        fs::remove_file(copied.root().join("boot/initrd.img-6")).unwrap();
        tools.iter().for_each(|(name, script)| copied.tool(name, script));
        copied
    };
    let arch = other(&[("mkinitcpio", MKINITCPIO), ("lsinitcpio", "#!/bin/sh\ncat $1\n")]);
    fs::rename(arch.root().join("boot/vmlinuz-6"), arch.root().join("boot/vmlinuz-linux")).unwrap();
    fs::write(arch.root().join("lib/modules/6/pkgbase"), "linux\n").unwrap();
    fs::create_dir_all(arch.root().join("etc/mkinitcpio.d")).unwrap();
    fs::write(arch.root().join("etc/mkinitcpio.d/linux.preset"), "").unwrap();
    fs::write(arch.root().join("etc/mkinitcpio.conf"), "MODULES=()\n").unwrap();
    arch.finish(&["nvme"]).unwrap();
    assert!(arch.read("boot/initramfs-linux.img").contains("nvme.ko.zst"));
    assert!(arch.read("etc/mkinitcpio.conf").ends_with("MODULES+=(nvme)\n"));
    // Its disk, of which a process has one at a time.
    drop(arch);

    let red_hat = other(&[("mkinitrd", MKINITRD)]);
    for tool in ["find", "cpio", "gzip"] {
        symlink("busybox", red_hat.root().join("bin").join(tool)).unwrap();
    }
    red_hat.finish(&["nvme"]).unwrap();
    let initrd = red_hat.root().join("boot/initrd-6.img");
    let list = ka_tests::tool::tool("sh", ["-c", "gzip -dc \"$0\" | cpio -it", initrd.to_str().unwrap()]);
    assert!(list.lines().any(|line| line.ends_with("lib/nvme.ko")), "{list}");
}

#[test]
fn only_the_default_kernel_is_rebuilt_when_that_is_asked_for() {
    let copied = Copied::new();
    fs::create_dir_all(copied.root().join("lib/modules/5")).unwrap();
    fs::write(copied.root().join("boot/vmlinuz-5"), "").unwrap();
    let mut plan = plan(Loader::None);
    plan.boot.kernels = Kernels::Default;
    copied.finish_as(&plan, &Machine::default()).unwrap();
    assert!(!copied.root().join("boot/initrd.img-5").exists());
    plan.boot.kernels = Kernels::All;
    copied.finish_as(&plan, &Machine::default()).unwrap();
    assert!(copied.root().join("boot/initrd.img-5").exists());
}

/// Puts its program where it is told to, for UEFI.
const GRUB_INSTALL_EFI: &str = r#"#!/bin/sh
set -e
[ "$1" = --target=x86_64-efi ] && [ "$2" = --efi-directory=/boot/efi ] && [ "$4" = --no-nvram ]
case $3 in
--bootloader-id=*) to=EFI/${3#--bootloader-id=}/grubx64.efi ;;
--removable) to=EFI/BOOT/BOOTX64.EFI ;;
esac
mkdir -p "/boot/efi/${to%/*}"
printf 'MZ core' > "/boot/efi/$to"
"#;

/// This machine has no firmware to tell, as one whose menu is full; the entry itself is tested beside its code.
#[test]
fn grub_for_uefi_is_put_where_the_firmware_looks() {
    let copied = Copied::new();
    let root = copied.root();
    copied.tool("grub-install", GRUB_INSTALL_EFI);
    copied.tool("update-grub", &GRUB_MKCONFIG.replace("$2", "/boot/grub/grub.cfg"));
    fs::create_dir_all(root.join("boot/efi/EFI/debian")).unwrap();
    fs::write(root.join("boot/efi/EFI/debian/grub.cfg"), format!("search.fs_uuid {GOLDEN} root\n")).unwrap();
    fs::write(root.join("etc/os-release"), "ID=debian\n").unwrap();
    let machine = Machine { firmware: Firmware::Uefi, ..Machine::default() };
    let plan = plan(Loader::Grub);

    let error = copied.finish_with(&plan, &machine, vec![copied.esp()]).unwrap_err().to_string();
    assert!(error.contains("the copied system has no GRUB for UEFI"), "{error}");
    fs::create_dir_all(root.join("usr/lib/grub/x86_64-efi")).unwrap();
    fs::write(root.join("usr/lib/grub/x86_64-efi/kernel.img"), "").unwrap();

    copied.finish_with(&plan, &machine, vec![copied.esp()]).expect("the loader is at the fallback path");
    let mut required = plan.clone();
    required.boot.require_nvram = true;
    let error = copied.finish_with(&required, &machine, vec![copied.esp()]).unwrap_err().to_string();
    assert!(
        error.starts_with("Install the boot loader: the firmware's menu has no entry for this node")
            && error.contains("is a partition of no disk"),
        "{error}"
    );
    for program in ["debian/grubx64.efi", "BOOT/BOOTX64.EFI"] {
        assert_eq!(copied.read(&format!("boot/efi/EFI/{program}")), "MZ core");
    }
    assert_eq!(copied.read("boot/efi/EFI/debian/grub.cfg"), format!("search.fs_uuid {NEW} root\n"));
    let error = copied.finish_as(&plan, &machine).unwrap_err().to_string();
    assert!(error.contains("no FAT file system is mounted at /boot/efi"), "{error}");
}

/// What Debian's systemd-boot does after each initrd, where it does something: the kernel's command line is the one
/// that is configured, or else the running kernel's, and the machine's ID is on it if entries are named by that.
const KERNEL_INSTALL: &str = r#"
set -e
read -r token < /etc/kernel/entry-token
if [ -f /etc/kernel/cmdline ]; then line=$(cat /etc/kernel/cmdline); else line=$(cat /proc/cmdline); fi
[ "$token" != "$(cat /etc/machine-id)" ] || line="$line systemd.machine_id=$token"
cp "/boot/vmlinuz-$3" "/boot/efi/$token/$3/linux"
cp "/boot/initrd.img-$3" "/boot/efi/$token/$3/"
cat > "/boot/efi/loader/entries/$token-$3.conf" <<END
title      by kernel-install
version    $3
options    $line
linux      /$token/$3/linux
initrd     /$token/$3/initrd.img-$3
END
"#;

#[test]
fn systemd_boot_starts_what_was_built_here() {
    for (hook, title) in [("", "golden"), (KERNEL_INSTALL, "by kernel-install")] {
        let copied = Copied::new();
        copied.tool("update-initramfs", &format!("{UPDATE_INITRAMFS}{hook}"));
        let id = "0123456789abcdef0123456789abcdef";
        let on_esp = |file: &str| format!("boot/efi/{id}/6/{file}");
        let entry = format!("boot/efi/loader/entries/{id}-6.conf");
        let options = format!("root=/dev/sda1 quiet systemd.machine_id={id}");
        for (file, text) in [
            (
                entry.clone(),
                format!(
                    "title golden\nversion 6\nmachine-id {id}\noptions {options}\nlinux /{id}/6/linux\n\
                     initrd /{id}/6/initrd.img-6\n"
                ),
            ),
            (on_esp("linux"), "stale".to_owned()),
            (on_esp("initrd.img-6"), "kernel/ext4.ko\n".to_owned()),
            ("boot/efi/EFI/systemd/systemd-bootx64.efi".to_owned(), "MZ".to_owned()),
            ("boot/vmlinuz-6".to_owned(), "kernel".to_owned()),
        ] {
            let path = copied.root().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let machine = Machine {
            firmware: Firmware::Uefi,
            storage_modules: vec!["nvme".to_owned()],
            ..Machine::default()
        };

        // This machine has no firmware to tell; the fallback path is enough.
        let plan = plan(Loader::SystemdBoot);
        copied.finish_with(&plan, &machine, vec![copied.esp()]).unwrap();

        let text = copied.read(&entry);
        let line = text.lines().find_map(|line| line.strip_prefix("options")).unwrap();
        assert_eq!(line.trim(), format!("root=UUID={NEW} quiet"));
        assert!(text.contains(title) && !text.contains("machine"), "{text}");
        assert_eq!(copied.read(&on_esp("linux")), "kernel");
        assert_eq!(copied.read(&on_esp("initrd.img-6")), "kernel/ext4.ko\nkernel/nvme.ko\n");
        assert_eq!(copied.read("etc/kernel/entry-token"), format!("{id}\n"));
        assert_eq!(copied.read("etc/machine-id"), "");
    }
}
