//! A copied system in a loop device, with stand-ins for its tools.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use ka::inventory::Firmware;
use ka::plan::{
    BootPlan, FileSystemKind, FileSystemPlan, FinalAction, FinishPlan, GoldenNames, Loader, Plan, Storage,
};
use ka_agent::disk::{BootCode, MadeFileSystem, MadeOn};
use ka_agent::finish::{self, FinishError, LastWrites, Machine};
use ka_tests::loop_device::{Loop, MIB};
use tempfile::TempDir;
pub(super) const GOLDEN: &str = "aaaaaaaa-0000-4000-8000-000000000001";
pub(super) const NEW: &str = "bbbbbbbb-0000-4000-8000-000000000002";

/// Lists the modules that the configuration requests, one per line, like a listing would name them.
pub(super) const UPDATE_INITRAMFS: &str = r#"#!/bin/sh
echo "building for $3"
{ echo kernel/ext4.ko; sed -n 's|^[a-z].*|kernel/&.ko|p' /etc/initramfs-tools/modules; } > "/boot/initrd.img-$3"
"#;

pub(super) const LSINITRAMFS: &str = "#!/bin/sh\ncat \"$1\"\n";

/// Creates GRUB's files, and writes to the disk unless instructed otherwise.
pub(super) const GRUB_INSTALL: &str = r#"#!/bin/sh
set -e
mkdir -p /boot/grub/i386-pc
printf core > /boot/grub/i386-pc/core.img
cp /usr/lib/boot.img /boot/grub/i386-pc/boot.img
cp /boot/grub/normal.mod /boot/grub/new && mv /boot/grub/new /boot/grub/normal.mod
[ "$2" = --no-bootsector ] || dd if=/usr/lib/boot.img of="$2" bs=440 count=1 conv=notrunc
"#;

/// Embeds the core, and writes the given boot image, filled in, around the table.
pub(super) const GRUB_BIOS_SETUP: &str = r#"#!/bin/sh
set -e
dir=${1#--directory=} image=${2#--boot-image=} disk=$3
dd if="$dir/core.img" of="$disk" bs=512 seek=1 conv=notrunc
dd if="$dir/$image" of="$disk" bs=440 count=1 conv=notrunc
dd if="$dir/$image" of="$disk" bs=1 skip=510 seek=510 count=2 conv=notrunc
printf '\001' | dd of="$disk" bs=1 seek=92 conv=notrunc
printf '\377' | dd of="$disk" bs=1 seek=100 conv=notrunc
printf '\220\220' | dd of="$disk" bs=1 seek=102 conv=notrunc
"#;

/// Falls back to the device's name if udev's link is missing, like the real one.
pub(super) const GRUB_MKCONFIG: &str = r#"#!/bin/sh
root=$(sed -n 's|^UUID=\([^ ]*\) / .*|\1|p' /etc/fstab)
if [ -e "/dev/disk/by-uuid/$root" ]; then root=UUID=$root; else root=/dev/sda1; fi
echo "linux /boot/vmlinuz-6 root=$root ro" > "$2"
"#;

/// Code in all bytes, with GRUB's name in it.
pub(super) fn boot_image() -> [u8; 512] {
    let mut image = [0xeb; 512];
    image[384..388].copy_from_slice(b"GRUB");
    image
}

/// A copied system, unpacked.
pub(super) struct Copied {
    directory: TempDir,
    pub(super) disk: Loop,
}

impl Copied {
    pub(super) fn new() -> Self {
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

    pub(super) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn tool(&self, name: &str, script: &str) {
        let path = self.root().join("usr/sbin").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(super) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.root().join(file)).unwrap()
    }

    /// Booted by GRUB from a BIOS.
    pub(super) fn finish(&self, hardware: &[&str]) -> Result<Option<BootCode>, FinishError> {
        let hardware = hardware.iter().map(|&module| module.to_owned()).collect();
        let machine = Machine { storage_modules: hardware, ..Machine::default() };
        Ok(self.finish_as(&plan(Loader::Grub), &machine)?.boot_code)
    }

    pub(super) fn finish_as(&self, plan: &Plan, machine: &Machine) -> Result<LastWrites, FinishError> {
        self.finish_with(plan, machine, Vec::new())
    }

    /// With more file systems than the root.
    pub(super) fn finish_with(
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
    pub(super) fn esp(&self) -> MadeFileSystem {
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

    pub(super) fn fail(&self) -> String {
        self.finish(&[]).unwrap_err().to_string()
    }
}

pub(super) fn plan(loader: Loader) -> Plan {
    Plan {
        run: "r1".to_owned(),
        storage: Storage::default(),
        boot: BootPlan::new(loader, Firmware::Bios),
        finish: FinishPlan::default(),
        after: FinalAction::Reboot,
    }
}
