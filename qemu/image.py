"""Disk images on the host: partitions seen and mounted without the kernel's help.

The host's kernel need not parse partition tables (and must not, for the disks under
test), so a partition is a window on the image file: a loop device with an offset.
Only the golden image's making shows real partitions to the kernel, because
grub-install wants to find the disk behind a file system.
"""

import contextlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from shell import ToolFailed, run

SECTOR = 512
MIB = 1 << 20


@dataclass(frozen=True)
class Partition:
    """One line of a partition table; start and size are bytes."""

    number: int
    start: int
    size: int
    type: str
    bootable: bool


def partitions(image):
    """The partitions of an image, as sfdisk reads them."""
    table = json.loads(run("sfdisk", "--json", image))["partitiontable"]
    unit = table.get("sectorsize", SECTOR)
    return [
        Partition(
            int(line["node"].removeprefix(str(image)).lstrip("p")),
            line["start"] * unit, line["size"] * unit,
            line["type"], line.get("bootable", False),
        )
        for line in table.get("partitions", [])
    ]


def blank(path, size):
    """A sparse file of `size` bytes that reads as zeros."""
    with open(path, "wb") as file:
        file.truncate(size)


@contextlib.contextmanager
def loop(image, start=0, size=None, read_only=False):
    """A loop device over an image, or over `size` bytes of it from `start` on."""
    options = ["--read-only"] if read_only else []
    if size is not None:
        options += ["--offset", start, "--sizelimit", size]
    device = run("losetup", "--find", "--show", *options, image).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@contextlib.contextmanager
def mounted(device, *options):
    """Mount a block device on a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="ka-mount-"))
    try:
        run("mount", "-t", "ext4", "-o", ",".join(options) or "rw", device, folder)
        try:
            yield folder
        finally:
            run("umount", "--recursive", folder)
    finally:
        folder.rmdir()


@contextlib.contextmanager
def mounted_partition(image, number, write=False):
    """Mount one partition of an image; read-only touches not even the journal."""
    part = next(part for part in partitions(image) if part.number == number)
    with loop(image, part.start, part.size, read_only=not write) as device:
        with mounted(device, "rw" if write else "ro,noload") as folder:
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


def identity(image, part):
    """What blkid says about a partition: a dictionary with TYPE, UUID and so on."""
    with loop(image, part.start, part.size, read_only=True) as device:
        lines = run("blkid", "--probe", "--output", "export", device).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)
