"""Disk images on the host: partitions seen and mounted without the kernel's help.

The host's kernel need not parse partition tables (and must not, for the disks under
test), so a partition is a window on the image file: a loop device with an offset.
Only the golden image's making shows real partitions to the kernel, because
grub-install wants to find the disk behind a file system.
"""

import contextlib
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import lvm
from shell import ToolFailed, run

SECTOR = 512
MIB = 1 << 20

# How to mount what nobody may change: not even a journal.
UNTOUCHED = {
    "ext2": "ro", "ext3": "ro,noload", "ext4": "ro,noload", "xfs": "ro,norecovery,nouuid",
    "btrfs": "ro,rescue=nologreplay", "jfs": "ro", "reiserfs": "ro,acl,user_xattr", "vfat": "ro",
}


@dataclass(frozen=True)
class Disk:
    """An image and the size of its sectors, which the image itself does not tell."""

    path: Path
    sector: int = SECTOR


@dataclass(frozen=True)
class Partition:
    """One line of a partition table; start and size are bytes."""

    number: int
    start: int
    size: int
    type: str
    bootable: bool
    uuid: str | None = None


def partitions(image, sector=SECTOR):
    """The partitions of an image, as sfdisk reads them, and the volumes that lie in them."""
    with seen(image, sector) as disk:
        table = json.loads(run("sfdisk", "--json", disk))["partitiontable"]
    unit = table.get("sectorsize", SECTOR)
    found = [
        Partition(
            int(re.search(r"\d+$", line["node"]).group()),
            line["start"] * unit, line["size"] * unit,
            line["type"], line.get("bootable", False), line.get("uuid"),
        )
        for line in table.get("partitions", [])
    ]
    volumes = [volume for part in found if part.type.upper() in lvm.TYPES for volume in lvm.volumes(image, part.start)]
    return found + [Partition(number, start, size, name, False)
                    for number, (name, start, size) in enumerate(volumes, start=lvm.FIRST)]


@contextlib.contextmanager
def seen(image, sector=SECTOR, read_only=True):
    """The image for a tool that asks for the sectors' size: itself, or a device with such sectors."""
    if sector == SECTOR:
        yield image
    else:
        with loop(image, read_only=read_only, sector=sector) as device:
            yield device


def blank(path, size):
    """A sparse file of `size` bytes that reads as zeros."""
    with open(path, "wb") as file:
        file.truncate(size)


@contextlib.contextmanager
def loop(image, start=0, size=None, read_only=False, sector=SECTOR):
    """A loop device over an image, or over `size` bytes of it from `start` on."""
    options = ["--read-only"] if read_only else []
    if size is not None:
        options += ["--offset", start, "--sizelimit", size]
    if sector != SECTOR:
        options += ["--sector-size", sector]
    device = run("losetup", "--find", "--show", *options, image).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@contextlib.contextmanager
def mounted(device, options="rw", kind="ext4"):
    """Mount a block device on a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="ka-mount-"))
    try:
        run("mount", "-t", kind, "-o", options, device, folder)
        try:
            yield folder
        finally:
            run("umount", "--recursive", folder)
    finally:
        folder.rmdir()


@contextlib.contextmanager
def mounted_partition(image, number, write=False, kind="ext4", subvolume=None, sector=SECTOR):
    """Mount one partition of an image; read-only touches not even the journal."""
    part = next(part for part in partitions(image, sector) if part.number == number)
    options = "rw" if write else UNTOUCHED[kind]
    if subvolume:
        options += f",subvol={subvolume}"
    with loop(image, part.start, part.size, read_only=not write, sector=sector) as device:
        with mounted(device, options, kind) as folder:
            yield folder


@contextlib.contextmanager
def shown_partitions(device, parts):
    """Tell the kernel about the partitions of a loop device, as partx does.

    Yields the partitions' nodes, keyed by number.
    """
    added = []
    try:
        nodes = {}
        for part in parts:
            run("addpart", device, part.number, part.start // SECTOR, part.size // SECTOR)
            added.append(part.number)
            nodes[part.number] = f"{device}p{part.number}"
            if not os.path.exists(nodes[part.number]):
                raise ToolFailed(f"addpart made no {nodes[part.number]}: is /dev a devtmpfs?")
        yield nodes
    finally:
        for number in added:
            run("delpart", device, number)


def identity(image, part, sector=SECTOR):
    """What blkid says about a partition: a dictionary with TYPE, UUID and so on."""
    with loop(image, part.start, part.size, read_only=True, sector=sector) as device:
        lines = run("blkid", "--probe", "--output", "export", device).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)
