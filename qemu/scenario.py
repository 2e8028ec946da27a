"""What a scenario is: the golden machine, the machines that it is cloned onto, and what is asked of ka.

A scenario is data. The trial (trial.py) is the same for all; what a scenario adds to it is
a function of its own module in scenarios/.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from image import MIB

HOST_MOUNTS = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs"})
"""Kinds that every kernel on which the harness runs can mount; the others are read in a workbench (workbench.py)."""


@dataclass(frozen=True)
class Subvolume:
    """A subvolume of a btrfs, with a mount of its own."""

    name: str
    mount: str
    options: str = "defaults"


@dataclass(frozen=True)
class Volume:
    """One partition of the golden node, and what is on it."""

    number: int
    kind: str  # a file system, or swap, extended, bios (GRUB's room on a GPT), lvm, raw (copied as it is)
    size: int | None = None  # bytes; None takes what is left
    mount: str | None = None
    options: str = "defaults"
    label: str | None = None
    bootable: bool = False
    subvolumes: tuple[Subvolume, ...] = ()
    logical: bool = False
    holds: str = ""  # the file system on a raw one; unknown bytes if there is none
    features: tuple[str, ...] = ()  # of an ext4
    journal: int = 0  # MiB of an ext4's journal, if not the default
    project: int = 0  # the project of its files; with it, new ones in its folders inherit it
    lv: str = ""  # its name if it is a logical volume and no partition; numbered from lvm.FIRST by these names

    @property
    def has_files(self):
        return self.kind not in ("swap", "extended", "bios", "raw", "lvm")

    @property
    def on_the_host(self):
        """Can it be mounted here? Names without case take a kernel with tables of Unicode."""
        return self.kind in HOST_MOUNTS and "casefold" not in self.features


@dataclass(frozen=True)
class Mount:
    """A place in the golden tree that is a file system of its own."""

    at: str
    volume: Volume
    subvolume: str | None
    options: str


@dataclass(frozen=True)
class GoldenDisk:
    """One disk of the golden node."""

    size: int
    label: str  # of the table: dos or gpt
    volumes: tuple[Volume, ...]
    sector: int = 512
    serial: str = "golden"

    @property
    def partitions(self):
        """The volumes that are partitions."""
        return [volume for volume in self.volumes if not volume.lv]

    @property
    def logical_volumes(self):
        return [volume for volume in self.volumes if volume.lv]

    def volume(self, number):
        return next(volume for volume in self.volumes if volume.number == number)

    def mounts(self):
        """The mounts of this disk, outer ones first."""
        found = []
        for volume in self.volumes:
            for sub in volume.subvolumes:
                found.append(Mount(sub.mount, volume, sub.name, sub.options))
            if volume.mount:
                found.append(Mount(volume.mount, volume, None, volume.options))
        return sorted(found, key=lambda mount: (mount.at.count("/") if mount.at != "/" else 0, mount.at))

    @property
    def filler(self):
        """The number of the partition that takes what the others leave."""
        return next(volume.number for volume in self.partitions if volume.size is None and volume.kind != "extended")


@dataclass(frozen=True)
class Golden:
    """The golden machine: what its image is made of."""

    name: str
    disks: tuple[GoldenDisk, ...]
    kernel: str = "linux-image-cloud-amd64"
    packages: tuple[str, ...] = ("initramfs-tools", "grub-pc")
    initrd_modules: tuple[str, ...] = ("virtio_pci", "virtio_blk", "ext4")
    modules: str = "dep"  # MODULES= of its initramfs-tools
    uefi: bool = False
    # Parts of the kernel package that no machine here needs, as dpkg's path-exclude; a full kernel has 300 MB of them.
    left_out: tuple[str, ...] = ()
    # Files that only this golden node has: path to text; those below a bin or sbin folder are executable.
    files: dict[str, str] = field(default_factory=dict, hash=False)
    commands: tuple[str, ...] = ()  # run in its root at the end of its making
    swap_in_fstab: bool = True  # otherwise a unit among its files names the swap
    serves_on: str = "eth0"  # the interface
    second_mac: str | None = None  # of a second card, which leads nowhere

    def mounts(self):
        """All mounts with the index of their disk, outer ones first."""
        found = [(index, mount) for index, disk in enumerate(self.disks) for mount in disk.mounts()]
        return sorted(found, key=lambda pair: (pair[1].at != "/", pair[1].at.count("/"), pair[1].at))

    def swaps(self):
        return [(index, volume) for index, disk in enumerate(self.disks)
                for volume in disk.volumes if volume.kind == "swap"]

    @property
    def made_on_the_host(self):
        """Can its file systems be filled here? Otherwise a virtual machine does it."""
        return not self.uefi and all(
            volume.on_the_host for disk in self.disks for volume in disk.volumes if volume.has_files)

    def places_for_material(self):
        """Mount points that get a lot of the test material each."""
        return [mount.at for _, mount in self.mounts() if mount.at != "/boot" and mount.volume.kind != "vfat"]

    @property
    def root(self):
        """The root's disk index and volume."""
        return next((index, mount.volume) for index, mount in self.mounts() if mount.at == "/")


@dataclass(frozen=True)
class NodeDisk:
    """A disk of a machine to be cloned onto: how it is connected, and how large it is."""

    size: int
    bus: str = "virtio"  # virtio, nvme, ahci or scsi
    sector: int = 512
    used_as: str = "bigger"  # before: a name in blank.KINDS
    serial: str | None = None  # without one, the machine's name

    @property
    def whole(self):
        """The kernel's name of the first such disk."""
        return {"virtio": "vda", "nvme": "nvme0n1", "ahci": "sda", "scsi": "sda"}[self.bus]


BIGGER = NodeDisk(4096 * MIB, used_as="bigger")
SMALLER = NodeDisk(2048 * MIB, used_as="smaller")


@dataclass(frozen=True)
class Hardware:
    """A machine to be cloned onto; the disks are in the order of the golden node's."""

    disks: tuple[NodeDisk, ...]
    card: str = "virtio-net-pci"
    uefi: bool = False
    memory: int = 1024  # MiB
    second_card: bool = False  # one more card, which leads nowhere

    def told(self):
        """In a few words, for the report's table."""
        def disk(one):
            return f"{one.size >> 30} GiB {one.bus}" + ("" if one.sector == 512 else f" {one.sector}")
        return ", ".join(map(disk, self.disks)) + (" UEFI" if self.uefi else "")


@dataclass(frozen=True)
class Selection:
    """A `-p` of `kactl run`: which disk of the nodes, and which disk of the golden node."""

    pick: str
    golden: str = "vda"
    described: bool = True  # by a desc in a file; otherwise kactl reads the golden disk itself


@dataclass(frozen=True)
class Scenario:
    """All that makes one `make qemu-test` what it is."""

    name: str
    about: str
    golden: Golden
    nodes: Callable[[int], list[Hardware]]  # from how many are asked for
    nodes_by_default: int = 2
    selections: tuple[Selection, ...] = (Selection("vda"),)
    pxe_options: str = ""
    run_options: str = ""
    files_in_initrd: tuple[str, ...] = ()  # drivers that the golden initrd must not have
    expect_status: int = 0
    failing: frozenset[str] = frozenset()  # nodes that must fail
    ends: bool = True  # the nodes power off or reboot; otherwise they go on into the new system
    hooks: object = None  # the scenario's own module, whose functions the trial calls if they are there
    woken: bool = False  # the scenario starts the nodes' machines itself, when they are switched on
    streams: int = 1  # how often the system may have to be sent, which takes as much longer
    site_dhcp: bool = False  # a foreign DHCP server on the wire

    def hook(self, name):
        return getattr(self.hooks, name, None)


def by_turns(*kinds, **changes):
    """Machines with these disks by turns."""
    machines = [Hardware((kind,), **changes) for kind in kinds]
    return lambda count: [machines[number % len(machines)] for number in range(count)]
