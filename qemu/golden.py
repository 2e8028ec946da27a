"""The golden node's disks: a Debian of the suite in place.SUITE, as a scenario describes it (scenario.Golden).

Made from nothing by mmdebstrap and kept under a key of everything that went into it, so
that only a change of the recipe recreates it. Where the host can mount all its file
systems, it is made right onto them, else in a folder that a workbench (workbench.py) puts
in its place. The system is quiet: while it runs it writes nothing to its disk of its own
accord, so that the golden tree can be compared before and after a run.
"""

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

import filesystems
import image
import lvm
import manifest
import material
import workbench
from image import MIB
from place import SUITE
from shell import ToolFailed, run

HERE = Path(__file__).parent
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")

PACKAGES = [
    # a system that boots and that a person would recognise
    "zstd", "systemd-sysv", "udev", "kmod",
    "openssh-server", "iproute2", "iputils-ping", "less", "acl", "attr", "libcap2-bin",
    # what kactl asks of a golden node
    "dnsmasq-base", "pxelinux", "syslinux-common", "busybox-static", "e2fsprogs", "cpio", "fdisk", "xz-utils",
]

# Whatever writes to the disk by itself: periodic work, stamps, the random seed, update marks.
SILENCED = [
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "xfs_scrub_all.timer",
    "fstrim.timer",
    "systemd-tmpfiles-clean.timer", "e2scrub_reap.service", "systemd-random-seed.service",
    "systemd-update-done.service", "systemd-journal-catalog-update.service", "systemd-hwdb-update.service",
    "systemd-networkd-wait-online.service",
    # GRUB's mark of a boot that has succeeded: it writes /boot/grub/grubenv.
    "grub-common.service", "grub-initrd-fallback.service",
]

# no_timer_check: on a busy host a VM may get no timer interrupt in the time in which the kernel tests for one.
GRUB_DEFAULTS = """\
GRUB_DEFAULT=0
GRUB_TIMEOUT=1
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200 net.ifnames=0 no_timer_check"
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --speed=115200"
"""

# The types of partitions on both kinds of tables.
LINUX, SWAP, EXTENDED, LVM = "83", "82", "5", "8E"
GPT_TYPES = {
    "swap": "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F", "vfat": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "bios": "21686148-6449-6E6F-744E-656564454649", "lvm": "E6D6D379-F507-44C2-A23C-238F2A3DF928",
}
GPT_LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"


@dataclass(frozen=True)
class Image:
    """A golden machine's disks as they were made."""

    disks: list[Path]
    uuids: dict[tuple[int, int], str]  # of each volume, by disk and partition
    kept: Path  # manifests of the file systems that only a workbench reads
    new: bool


def prepare(cache, golden):
    """The golden disks, from the cache or newly made."""
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"{golden.name}-{SUITE}-{recipe_key(golden)}"
    new = not folder.exists()
    if new:
        unfinished = folder.with_suffix(f".{os.getpid()}")
        try:
            unfinished.mkdir()
            build(unfinished, golden, cache)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    disks = [folder / f"disk{number}.img" for number in range(len(golden.disks))]
    kept = folder / f"manifests-{hashlib.sha256((HERE / 'manifest.py').read_bytes()).hexdigest()[:8]}"
    if not kept.exists():
        keep_manifests(kept, disks, golden, cache)
    return Image(disks, load_uuids(folder), kept, new)


def recipe_key(golden):
    """A short hash of everything that decides what the disks hold."""
    digest = hashlib.sha256(f"{MIRROR} {SUITE} {golden!r}".encode())
    sources = [HERE / f"{name}.py" for name in ("filesystems", "golden", "image", "lvm", "material", "workbench")]
    sources += sorted(path for path in (HERE / "golden-root").rglob("*") if path.is_file())
    for path in sources:
        digest.update(str(path.relative_to(HERE)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def load_uuids(folder):
    lines = json.loads((folder / "uuids.json").read_text())
    return {(disk, number): value for disk, number, value in lines}


def build(folder, golden, cache):
    """Make the disks: tables, file systems, Debian, configuration, material, boot loader."""
    os.umask(0o022)
    uuids = {
        (index, volume.number): new_uuid(volume)
        for index, disk in enumerate(golden.disks) for volume in disk.volumes
    }
    (folder / "uuids.json").write_text(json.dumps([[*key, value] for key, value in uuids.items()]))
    paths = []
    for index, disk in enumerate(golden.disks):
        path = folder / f"disk{index}.img"
        image.blank(path, disk.size)
        write_table(path, disk)
        make_file_systems(path, disk, {number: value for (of, number), value in uuids.items() if of == index},
                          golden.made_on_the_host)
        paths.append(path)
    if golden.made_on_the_host:
        with host_tree(paths, golden) as (root, device, nodes):
            fill(root, golden, uuids)
            material.plant_traits(root, golden.places_for_material())
            make_initrd(root, golden)
            install_grub(root, device, nodes)
            name_the_root(root, golden, uuids)
            mark_up_to_date(root)
    else:
        with tempfile.TemporaryDirectory(prefix="ka-golden-", dir=folder) as root:
            root = Path(root)
            root.chmod(0o755)
            fill(root, golden, uuids)
            make_initrd(root, golden)
            mark_up_to_date(root)
            workbench.unpack(cache, root, paths, golden, folder / "logs")
    if golden.made_on_the_host:
        add_features(paths, golden)
    check(paths, golden)


def new_uuid(volume):
    return f"{uuid.uuid4().hex[:4]}-{uuid.uuid4().hex[:4]}".upper() if volume.kind == "vfat" else str(uuid.uuid4())


def positions(disk):
    """Where the volumes lie: (volume, start, size) in bytes. The open one takes what the others leave."""
    tail = MIB if disk.label == "gpt" else 0
    # Each logical partition has its own table before it.
    fixed = sum((volume.size or 0) + (MIB if volume.logical else 0)
                for volume in disk.partitions if volume.kind != "extended")
    end, cursor, found = disk.size - tail, MIB, []
    for volume in disk.partitions:
        start = cursor + (MIB if volume.logical else 0)
        size = volume.size or (end - start if volume.kind == "extended" else end - MIB - fixed)
        found.append((volume, start, size))
        cursor = start if volume.kind == "extended" else start + size
    return found


def table_type(disk, volume):
    if disk.label == "gpt":
        return GPT_TYPES.get(volume.kind, GPT_LINUX)
    return {"swap": SWAP, "extended": EXTENDED, "lvm": LVM}.get(volume.kind, LINUX)


def write_table(path, disk):
    lines = [f"label: {disk.label}"]
    for volume, start, size in positions(disk):
        flag = ", bootable" if volume.bootable else ""
        lines.append(f"/dev/disk{volume.number} : start={start // disk.sector}, size={size // disk.sector}"
                     f", type={table_type(disk, volume)}{flag}")
    with image.seen(path, disk.sector, read_only=False) as seen:
        run("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", seen, input="\n".join(lines) + "\n")


def make_file_systems(path, disk, uuids, on_the_host):
    for part in image.partitions(path, disk.sector):
        if disk.volume(part.number).kind == "lvm":
            with image.loop(path, part.start, part.size, sector=disk.sector) as device:
                lvm.make(device, disk.logical_volumes)
    for part in image.partitions(path, disk.sector):
        volume = disk.volume(part.number)
        if volume.kind == "raw" and not volume.holds:
            material.fill_raw(path, part.start, part.size)
            continue
        kind = volume.holds or volume.kind
        if kind in filesystems.MAKERS:
            with image.loop(path, part.start, part.size, sector=disk.sector) as device:
                filesystems.make(kind, device, uuids[part.number], volume.label,
                                 () if on_the_host else volume.features, volume.journal)
                if volume.holds:
                    with image.mounted(device, kind=kind) as root:
                        material.plant_some(root, kind)


def add_features(paths, golden):
    """Features that this kernel may not write with, as those of quotas: they come when all files are there."""
    for path, disk in zip(paths, golden.disks):
        parts = {part.number: part for part in image.partitions(path, disk.sector)}
        for volume in disk.volumes:
            part = parts[volume.number]
            if volume.features:
                with image.loop(path, part.start, part.size, sector=disk.sector) as device:
                    filesystems.add_features(device, volume.features, volume.project)


@contextlib.contextmanager
def host_tree(paths, golden):
    """The golden tree mounted here, with the first disk's device and its partitions' nodes."""
    parts = image.partitions(paths[0])
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(image.loop(paths[0]))
        shown = [part for part in parts if part.number < lvm.FIRST]
        nodes = stack.enter_context(image.shown_partitions(device, shown))
        for part in parts:
            if part.number >= lvm.FIRST:
                nodes[part.number] = stack.enter_context(image.loop(paths[0], part.start, part.size))
        root = None
        for index, mount in golden.mounts():
            if index:
                part = next(part for part in image.partitions(paths[index], golden.disks[index].sector)
                            if part.number == mount.volume.number)
                node = stack.enter_context(
                    image.loop(paths[index], part.start, part.size, sector=golden.disks[index].sector))
            else:
                node = nodes[mount.volume.number]
            if root is None:
                root = stack.enter_context(image.mounted(node, kind=mount.volume.kind))
                continue
            place = root / mount.at.lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            run("mount", "-t", mount.volume.kind, node, place)
        yield root, device, nodes


def fill(root, golden, uuids):
    """Everything of the golden tree but its boot loader."""
    install_debian(root, golden)
    configure(root, golden, uuids)
    material.plant(root)
    for _, mount in golden.mounts():
        if mount.at in golden.places_for_material() and mount.at != "/":
            (root / mount.at.lstrip("/")).mkdir(parents=True, exist_ok=True)
            material.plant_some(root / mount.at.lstrip("/"), mount.volume.kind)


def install_debian(root, golden):
    packages = ",".join([*PACKAGES, golden.kernel, *golden.packages])
    left_out = [f"--dpkgopt=path-exclude={pattern}" for pattern in golden.left_out]
    # Not empty: other file systems of the machine may be mounted in it already.
    run("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--skip=check/empty",
        f"--include={packages}", *left_out, SUITE, root, f"deb {MIRROR} {SUITE} main")


def configure(root, golden, uuids):
    for source in (path for path in (HERE / "golden-root").rglob("*") if path.is_file()):
        place = root / source.relative_to(HERE / "golden-root")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
        place.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
    for name, text in golden.files.items():
        place = root / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(0o755 if place.parent.name in ("bin", "sbin") else 0o644)
    (root / "etc/fstab").write_text(fstab(golden, uuids))
    (root / "etc/hostname").write_text("golden\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 golden\n")
    (root / "etc/machine-id").write_text(uuid.uuid4().hex + "\n")
    (root / "etc/default/grub").write_text(GRUB_DEFAULTS)
    for folder in ("etc/ka", "var/lib/ka", "var/log/ka"):  # as a package would make them
        (root / folder).mkdir(exist_ok=True)
    # Written at every boot, but only if they exist; a clone has them empty.
    for log in ("wtmp", "btmp", "lastlog", "faillog", "tallylog"):
        (root / "var/log" / log).unlink(missing_ok=True)
    if SUITE == "bullseye":
        make_what_its_first_boot_makes(root)
    run("chroot", root, "passwd", "--quiet", "--delete", "root")
    run("chroot", root, "systemctl", "--quiet", "enable", "systemd-networkd", "test-commands")
    keep_tmp_in_memory(root)
    run("chroot", root, "systemctl", "--quiet", "mask", *SILENCED)
    for command in golden.commands:
        run("chroot", root, "sh", "-c", command)


def make_what_its_first_boot_makes(root):
    """What Debian 11 leaves to systemd-tmpfiles; later packages bring it along, or do without."""
    (root / "etc/mtab").symlink_to("../proc/self/mounts")
    for name in ("var/cache/private", "var/lib/private", "var/log/private"):
        (root / name).mkdir(mode=0o700)
    for name in ("var/lib/systemd/coredump", "var/lib/systemd/pstore"):
        (root / name).mkdir(parents=True, exist_ok=True)


def keep_tmp_in_memory(root):
    """As Debian 13 does by itself; before, the unit is an example that somebody has to enable."""
    example = root / "usr/share/systemd/tmp.mount"
    if example.exists():
        run("chroot", root, "systemctl", "--quiet", "enable", f"/{example.relative_to(root)}")
    elif not (root / "usr/lib/systemd/system/tmp.mount").exists():
        raise ToolFailed(f"{SUITE} has no tmp.mount: its /tmp would be on the golden disk, and change while it runs")


def fstab(golden, uuids):
    """The mount table; for a clone, the one that it must have."""
    lines = []
    for index, mount in golden.mounts():
        options = ",".join(filter(None, (mount.options, mount.subvolume and f"subvol={mount.subvolume}")))
        check = 1 if mount.at == "/" else 2
        source = source_of(mount.volume, uuids[index, mount.volume.number])
        lines.append(f"{source} {mount.at} {mount.volume.kind} {options} 0 {check}\n")
    for index, volume in golden.swaps() if golden.swap_in_fstab else ():
        lines.append(f"{source_of(volume, uuids[index, volume.number])} none swap sw 0 0\n")
    return "".join(lines)


def source_of(volume, uuid):
    """What fstab calls a volume: installers name logical volumes, whose names are the same on every clone."""
    return lvm.node(volume) if volume.lv else f"UUID={uuid}"


def make_initrd(root, golden):
    """The initrd, as the system's own tool makes it."""
    with chroot_mounts(root):
        if "dracut" in golden.packages:
            version = kernel_version(root)
            run("chroot", root, "dracut", "--force", f"/boot/initrd.img-{version}", version)
            return
        # MODULES=dep looks at the machine it runs on, which here is the host: name the VM's devices.
        settings = root / "etc/initramfs-tools/conf.d/golden.conf"
        modules = root / "etc/initramfs-tools/modules"
        kept = settings.read_text(), modules.read_text()
        settings.write_text("MODULES=list\nCOMPRESS=zstd\n")
        modules.write_text("".join(f"{name}\n" for name in golden.initrd_modules))
        run("chroot", root, "update-initramfs", "-u", "-k", "all")
        settings.write_text(kept[0])
        modules.write_text(kept[1])


def install_grub(root, device, nodes):
    with chroot_mounts(root, device, *nodes.values()):
        run("chroot", root, "grub-install", "--target=i386-pc", device)
        run("chroot", root, "update-grub")


def name_the_root(root, golden, uuids):
    """A root in a volume group by its name, as GRUB's tools write it where the kernel has a device mapper."""
    index, volume = golden.root
    if volume.lv:
        menu = root / "boot/grub/grub.cfg"
        menu.write_text(menu.read_text().replace(f"root=UUID={uuids[index, volume.number]}", f"root={lvm.node(volume)}"))


@contextlib.contextmanager
def chroot_mounts(root, *devices):
    """proc, sys, and a small /dev that shows the image's devices, and by-uuid without udev."""
    dev = root / "dev"
    try:
        run("mount", "-t", "proc", "proc", root / "proc")
        run("mount", "-t", "sysfs", "-o", "ro", "sysfs", root / "sys")
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", dev)
        by_uuid = dev / "disk/by-uuid"
        by_uuid.mkdir(parents=True)
        for name in ("/dev/null", "/dev/zero", "/dev/urandom", *devices):
            found = os.stat(name)
            kind = stat.S_IFMT(found.st_mode)
            os.mknod(root / name.lstrip("/"), kind | 0o666, found.st_rdev)
        for name in devices[1:]:
            (by_uuid / uuid_of(name)).symlink_to(name)
        (dev / "fd").symlink_to("/proc/self/fd")
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


def check(paths, golden):
    """What a clone's disks have to pass, the golden ones have to pass first."""
    for path, disk in zip(paths, golden.disks):
        with image.seen(path, disk.sector) as seen:
            run("sfdisk", "--verify", seen)
        faults = [fault for volume in disk.volumes if volume.has_files
                  for fault in filesystems.faults(path, volume, disk.sector)]
        if faults:
            raise ToolFailed("; ".join(faults))


def keep_manifests(kept, paths, golden, cache):
    """What only a workbench reads is read once, for as long as the image is kept."""
    unfinished = kept.with_suffix(f".{os.getpid()}")
    unfinished.mkdir()
    if workbench.foreign_mounts(golden):
        disks = [image.Disk(path, disk.sector) for path, disk in zip(paths, golden.disks)]
        [trees] = workbench.manifests(cache, [disks], golden, kept.parent / "logs")
        for at, tree in trees.items():
            manifest.save(tree, unfinished / f"{manifest.file_name(at)}.jsonl")
    unfinished.rename(kept)


def kernel_version(root):
    """The version of the one kernel in the tree."""
    kernels = [path.name for path in (root / "lib/modules").iterdir()]
    if len(kernels) != 1:
        raise ToolFailed(f"{root}/lib/modules has {len(kernels)} kernels, expected one")
    return kernels[0]
