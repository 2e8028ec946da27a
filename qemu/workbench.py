"""A machine to work in: a Debian with its full kernel, for what the host's kernel cannot mount.

JFS, ReiserFS and FAT are not in every kernel that the harness runs on. The workbench mounts them, to
fill the golden disks before a run and to read manifests after it. It has no network, and forgets
whatever it wrote on its own disk.
"""

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path

import image
import manifest
import vm
from image import MIB
from shell import run

HERE = Path(__file__).parent
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
SIZE = 1536 * MIB
MEMORY = 1024  # MiB
MOST_DISKS = 12
PACKAGES = ("linux-image-amd64", "initramfs-tools", "zstd", "kmod", "python3-minimal", "libpython3-stdlib",
            "btrfs-progs")
# What no virtual machine needs, and a third of the disk.
LEFT_OUT = tuple(f"/lib/modules/*/kernel/{part}/*" for part in (
    "drivers/gpu", "drivers/media", "drivers/net", "drivers/infiniband", "drivers/staging", "drivers/iio", "sound"))

INIT = """\
#!/bin/bash
# PID 1 of a workbench: the modules, and then the test's commands from its port.
mount -t tmpfs tmpfs /tmp
modprobe -a virtio_console xfs jfs reiserfs btrfs vfat nls_ascii nls_cp437 ext4
while :; do
    for port in /sys/class/virtio-ports/*; do
        [ "$(cat "$port/name")" != test.commands ] || /usr/local/sbin/test-commands "/dev/${port##*/}"
    done
done
"""


def prepare(cache):
    """The workbench's disk and kernel, from the cache or newly made."""
    key = hashlib.sha256(f"{MIRROR} {SIZE} {PACKAGES} {LEFT_OUT} {INIT}".encode()).hexdigest()[:16]
    folder = cache / f"workbench-{key}"
    with open(cache / "workbench.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_suffix(f".{os.getpid()}")
            try:
                unfinished.mkdir()
                build(unfinished)
                unfinished.rename(folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def build(folder):
    disk = folder / "disk.img"
    image.blank(disk, SIZE)
    run("mkfs.ext4", "-qF", disk)
    with image.loop(disk) as device, image.mounted(device) as root:
        run("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
            "bookworm", root, f"deb {MIRROR} bookworm main")
        (root / "sbin/workbench").write_text(INIT)
        shutil.copyfile(HERE / "golden-root/usr/local/sbin/test-commands", root / "usr/local/sbin/test-commands")
        for name in ("sbin/workbench", "usr/local/sbin/test-commands"):
            (root / name).chmod(0o755)
        (root / "etc/initramfs-tools/conf.d/workbench.conf").write_text("MODULES=list\nCOMPRESS=zstd\n")
        (root / "etc/initramfs-tools/modules").write_text("virtio_pci\nvirtio_blk\next4\n")
        run("mount", "-t", "proc", "proc", root / "proc")
        try:
            run("chroot", root, "update-initramfs", "-u", "-k", "all")
        finally:
            run("umount", root / "proc")
        for kind in ("vmlinuz", "initrd.img"):
            [found] = (root / "boot").glob(f"{kind}-*")
            shutil.copyfile(found, folder / kind)


@contextlib.contextmanager
def session(cache, logs, drives):
    """A running workbench with these drives as vdb, vdc and so on."""
    folder = prepare(cache)
    logs.mkdir(exist_ok=True)
    kernel = vm.Kernel(folder / "vmlinuz", folder / "initrd.img",
                       "root=/dev/vda rw init=/sbin/workbench console=ttyS0,115200 no_timer_check panic=-1 quiet")
    own = vm.Drive(folder / "disk.img", kept=False)
    with vm.machine("workbench", [own, *drives], logs, memory=MEMORY, cpus=2, kernel=kernel) as bench:
        bench.wait_ready()
        yield bench
        bench.power_off("sync; echo o > /proc/sysrq-trigger")


def source_of(module):
    """A module of the harness, as a word of a command."""
    return base64.b64encode((HERE / f"{module}.py").read_bytes()).decode()


def device(index, number):
    """The name of a partition, or of a whole disk, of the drive with this index."""
    return f"/dev/vd{chr(ord('b') + index)}{number or ''}"


def unpack(cache, tree, paths, golden, logs):
    """Put a golden tree onto its disks, and make them bootable with the tree's own tools."""
    tar = tree.parent / "tree.tar"
    run("tar", "-C", tree, "--numeric-owner", "--xattrs", "--xattrs-include=*", "--sparse", "--format=posix",
        "-cf", tar, ".")
    drives = [vm.Drive(path, sector=disk.sector) for path, disk in zip(paths, golden.disks)]
    with session(cache, logs, [*drives, vm.Drive(tar, read_only=True)]) as bench:
        for line in _mounting(golden):
            bench.must(line)
        bench.must(f"tar -C /mnt --numeric-owner --xattrs --xattrs-include='*' -xpf {device(len(drives), None)}")
        bench.must(f"echo {source_of('material')} | base64 -d > /tmp/material.py")
        bench.must(f"python3 /tmp/material.py /mnt {' '.join(golden.places_for_material())}")
        bench.must("for d in dev proc sys; do mount --bind /$d /mnt/$d; done")
        for command in _boot_loader(golden):
            bench.must(f"chroot /mnt {command}")
        bench.must("umount -R /mnt")
    tar.unlink()


def _mounting(golden):
    """Commands that mount the golden tree, with its options, and make what subvolumes it has."""
    mounts = golden.mounts()
    for index, volume in {(index, mount.volume) for index, mount in mounts if mount.subvolume}:
        made = " && ".join(f"btrfs subvolume create /mnt/{sub.name}" for sub in volume.subvolumes)
        yield f"mount {device(index, volume.number)} /mnt && {made} && umount /mnt"
    for index, mount in mounts:
        options = ",".join(filter(None, (mount.options, mount.subvolume and f"subvol={mount.subvolume}")))
        yield (f"mkdir -p /mnt{mount.at} && mount -t {mount.volume.kind} -o {options}"
               f" {device(index, mount.volume.number)} /mnt{mount.at}")


def _boot_loader(golden):
    index, _ = golden.root
    if golden.uefi:
        yield "grub-install --target=x86_64-efi --no-nvram --force-extra-removable"
    else:
        yield f"grub-install --target=i386-pc {device(index, None)}"
    yield "update-grub"


def foreign_mounts(golden):
    """What only a workbench can mount."""
    return [(index, mount) for index, mount in golden.mounts() if not mount.volume.on_the_host]


def manifests(cache, machines, golden, logs):
    """The manifests of all foreign file systems of these machines (a list of disks each), by place."""
    drives = [vm.Drive(disk.path, sector=disk.sector, read_only=True) for disks in machines for disk in disks]
    if len(drives) > MOST_DISKS:
        half = len(machines) // 2
        return manifests(cache, machines[:half], golden, logs) + manifests(cache, machines[half:], golden, logs)
    found = []
    with session(cache, logs, drives) as bench:
        bench.must(f"echo {source_of('manifest')} | base64 -d > /tmp/manifest.py")
        for position in range(len(machines)):
            trees = {}
            for index, mount in foreign_mounts(golden):
                node = device(position * len(golden.disks) + index, mount.volume.number)
                options = image.UNTOUCHED[mount.volume.kind]
                lines = bench.must(f"mount -t {mount.volume.kind} -o {options} {node} /mnt"
                                   " && python3 /tmp/manifest.py /mnt && umount /mnt")
                entries = [json.loads(line) for line in lines.splitlines()]
                trees[mount.at] = {entry.pop("path"): entry for entry in entries}
            found.append(trees)
    return found
