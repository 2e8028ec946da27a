"""The golden node's disk: a Debian 12 that boots by GRUB from its own MBR disk.

Made from nothing by mmdebstrap, right onto the image's file system, and kept under a
key of everything that went into it, so that only a change of the recipe makes it anew.
The system is quiet: while it runs it writes nothing to its disk of its own accord, so
that the golden tree can be compared before and after a run.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import uuid
from pathlib import Path

import image
import material
from image import MIB
from shell import ToolFailed, run

HERE = Path(__file__).parent
SIZE = 3072 * MIB
SWAP = 256 * MIB
ROOT_NUMBER, SWAP_NUMBER = 1, 2
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")

PACKAGES = [
    # a system that boots and that a person would recognise
    "linux-image-cloud-amd64", "initramfs-tools", "zstd", "grub-pc", "systemd-sysv", "udev", "kmod",
    "openssh-server", "iproute2", "iputils-ping", "less", "acl", "attr", "libcap2-bin",
    # what kactl asks of a golden node
    "dnsmasq-base", "pxelinux", "syslinux-common", "busybox-static", "e2fsprogs", "cpio", "fdisk",
]

# Whatever writes to the disk by itself: periodic work, stamps, the random seed, update marks.
SILENCED = [
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer",
    "systemd-tmpfiles-clean.timer", "e2scrub_reap.service", "systemd-random-seed.service",
    "systemd-update-done.service", "systemd-journal-catalog-update.service", "systemd-hwdb-update.service",
    "systemd-networkd-wait-online.service",
]

GRUB_DEFAULTS = """\
GRUB_DEFAULT=0
GRUB_TIMEOUT=1
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200 net.ifnames=0"
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --speed=115200"
"""


def prepare(cache):
    """The golden image, from the cache or newly made. Returns its path and if it was new."""
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"golden-{recipe_key()}.img"
    if path.exists():
        return path, False
    unfinished = path.with_suffix(f".{os.getpid()}")
    try:
        build(unfinished)
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path, True


def recipe_key():
    """A short hash of everything that decides what the image holds."""
    digest = hashlib.sha256(MIRROR.encode())
    sources = [HERE / name for name in ("golden.py", "material.py", "image.py")]
    sources += sorted(path for path in (HERE / "golden-root").rglob("*") if path.is_file())
    for path in sources:
        digest.update(str(path.relative_to(HERE)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def build(path):
    """Make the image: table, file systems, Debian, configuration, material, boot loader."""
    os.umask(0o022)
    image.blank(path, SIZE)
    write_table(path)
    parts = image.partitions(path)
    with image.loop(path) as device, image.shown_partitions(device, parts) as nodes:
        run("mkfs.ext4", "-q", "-L", "golden", nodes[ROOT_NUMBER])
        run("mkswap", nodes[SWAP_NUMBER])
        with image.mounted(nodes[ROOT_NUMBER]) as root:
            install_debian(root)
            configure(root, uuid_of(nodes[ROOT_NUMBER]), uuid_of(nodes[SWAP_NUMBER]))
            make_bootable(root, device, nodes)
            material.plant(root)
            mark_up_to_date(root)
    check(path)


def write_table(path):
    """MBR: the root fills what the swap leaves."""
    root = SIZE - SWAP - MIB
    run("sfdisk", "--quiet", path, input=f"""\
label: dos
start={MIB // 512}, size={root // 512}, type=83, bootable
start={(MIB + root) // 512}, size={SWAP // 512}, type=82
""")


def install_debian(root):
    run("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}",
        "bookworm", root, f"deb {MIRROR} bookworm main")


def configure(root, root_uuid, swap_uuid):
    for source in (path for path in (HERE / "golden-root").rglob("*") if path.is_file()):
        place = root / source.relative_to(HERE / "golden-root")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
        place.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
    (root / "etc/fstab").write_text(
        f"UUID={root_uuid} / ext4 defaults,errors=remount-ro 0 1\nUUID={swap_uuid} none swap sw 0 0\n")
    (root / "etc/hostname").write_text("golden\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 golden\n")
    (root / "etc/machine-id").write_text(uuid.uuid4().hex + "\n")
    (root / "etc/default/grub").write_text(GRUB_DEFAULTS)
    for log in ("wtmp", "btmp", "lastlog"):  # written at every boot, but only if they exist
        (root / "var/log" / log).unlink(missing_ok=True)
    run("chroot", root, "passwd", "--quiet", "--delete", "root")
    run("chroot", root, "systemctl", "--quiet", "enable", "systemd-networkd", "test-commands",
        "/usr/share/systemd/tmp.mount")
    run("chroot", root, "systemctl", "--quiet", "mask", *SILENCED)


def make_bootable(root, device, nodes):
    """initrd and GRUB, as Debian's own tools make them."""
    with chroot_mounts(root, device, nodes):
        # MODULES=dep looks at the machine it runs on, which here is the host: name the VM's devices.
        settings = root / "etc/initramfs-tools/conf.d/golden.conf"
        modules = root / "etc/initramfs-tools/modules"
        kept = settings.read_text(), modules.read_text()
        settings.write_text("MODULES=list\nCOMPRESS=zstd\n")
        modules.write_text("virtio_pci\nvirtio_blk\next4\n")
        run("chroot", root, "update-initramfs", "-u", "-k", "all")
        settings.write_text(kept[0])
        modules.write_text(kept[1])
        run("chroot", root, "grub-install", "--target=i386-pc", device)
        run("chroot", root, "update-grub")


@contextlib.contextmanager
def chroot_mounts(root, device, nodes):
    """proc, sys, and a small /dev that shows the image's devices, and by-uuid without udev."""
    dev = root / "dev"
    try:
        run("mount", "-t", "proc", "proc", root / "proc")
        run("mount", "-t", "sysfs", "-o", "ro", "sysfs", root / "sys")
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", dev)
        for name in ("/dev/null", "/dev/zero", "/dev/urandom", device, *nodes.values()):
            found = os.stat(name)
            kind = stat.S_IFMT(found.st_mode)
            os.mknod(root / name.lstrip("/"), kind | 0o666, found.st_rdev)
        (dev / "fd").symlink_to("/proc/self/fd")
        by_uuid = dev / "disk/by-uuid"
        by_uuid.mkdir(parents=True)
        (by_uuid / uuid_of(nodes[ROOT_NUMBER])).symlink_to(nodes[ROOT_NUMBER])
        yield
    finally:
        for place in (dev, root / "sys", root / "proc"):
            if os.path.ismount(place):
                run("umount", place)


def mark_up_to_date(root):
    """Newer than /usr: so systemd finds nothing to bring up to date at its first boot."""
    for place in ("etc/.updated", "var/.updated"):
        (root / place).touch()


def uuid_of(node):
    return run("blkid", "--probe", "--output", "value", "--match-tag", "UUID", node).strip()


def check(path):
    """What a clone's disk has to pass, the golden one has to pass first."""
    run("sfdisk", "--verify", path)
    root = next(part for part in image.partitions(path) if part.number == ROOT_NUMBER)
    with image.loop(path, root.start, root.size, read_only=True) as device:
        run("e2fsck", "-fn", device)


def kernel_version(root):
    """The version of the one kernel in the tree."""
    kernels = [path.name.removeprefix("vmlinuz-") for path in (root / "boot").glob("vmlinuz-*")]
    if len(kernels) != 1:
        raise ToolFailed(f"{root}/boot has {len(kernels)} kernels, expected one")
    return kernels[0]
