"""Disks to clone onto. Not blank at all: they carry what used disks carry.

Another partition table, boot code that must never run again, real file systems in the
old partitions, and magic numbers of other ones wherever a new partition might begin:
whoever reformats the disk carelessly ends up with partitions of two kinds at once.
"""

from dataclasses import dataclass

import image
from image import MIB
from shell import run

BOOT_MESSAGE = b"\r\nSTALE BOOT CODE RAN\r\n"


@dataclass(frozen=True)
class Kind:
    """A sort of used disk; the table is an sfdisk script."""

    table: str
    ext4: int
    swap: int


KINDS = {
    "bigger": Kind("""\
label: gpt
start=2048, size=2M, type=21686148-6449-6E6F-744E-656564454649, name=bios
size=500M, type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F, name=swap
size=1000M, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name=old-root
type=E6D6D379-F507-44C2-A23C-238F2A3DF928, name=old-lvm
""", ext4=3, swap=2),
    "smaller": Kind("""\
label: dos
start=63, size=200000, type=83, bootable
start=206848, size=600M, type=82
size=300M, type=83
start=2050048, type=5
size=400M, type=83
type=8e
""", ext4=5, swap=2),
    "data": Kind("""\
label: gpt
size=100M, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4
size=64M, type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F
""", ext4=1, swap=2),
}


def make(path, disk):
    """A node's disk (see scenario.NodeDisk), as its former owner left it."""
    kind = KINDS[disk.used_as]
    image.blank(path, disk.size)
    scatter_signatures(path, disk.size)
    with image.seen(path, disk.sector, read_only=False) as seen:
        # A loop device's table is not read by every kernel, and need not be.
        run("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never", "--wipe-partitions", "never",
            seen, input=kind.table)
    by_number = {part.number: part for part in image.partitions(path, disk.sector)}
    for maker, part in ((("mkfs.ext4", "-qF"), by_number[kind.ext4]), (("mkswap",), by_number[kind.swap])):
        with image.loop(path, part.start, part.size, sector=disk.sector) as device:
            run(*maker, device)
    write_boot_code(path)


def write_boot_code(path):
    """Boot code that says on the first serial port that it ran, and stops.

        7c00  cld; xor ax,ax; mov ds,ax; mov si,7c17; mov dx,3f8
        7c0b  lodsb; test al,al; jz 7c13; out dx,al; jmp 7c0b
        7c13  cli; hlt; jmp 7c13
    """
    code = bytes.fromhex("fc 31c0 8ed8 be177c baf803 ac 84c0 7403 ee ebf8 fa f4 ebfc") + BOOT_MESSAGE + b"\0"
    with open(path, "r+b") as disk:
        disk.write(code)
        disk.seek(510)
        disk.write(b"\x55\xaa")


# Where each kind of content is recognised, from the start of its partition: see blkid's probers.
SIGNATURES = (
    ((0, b"XFSB\0\0\x10\0"),),
    ((512, b"LABELONE" + bytes(16) + b"LVM2 001"),),
    ((64 * 1024 + 64, b"_BHRfS_M"),),
    ((4086, b"SWAPSPACE2"),),
    ((0, b"LUKS\xba\xbe\0\x01"),),
    ((4096, b"\xfc\x4e\x2b\xa9\x01\0\0\0"),),
    ((0x438, b"\x53\xef"),),
)


def scatter_signatures(path, size):
    """At each MiB one, at the first sectors that old tables used one of each."""
    with open(path, "r+b") as disk:
        for place in range(1, size // MIB):
            for offset, magic in SIGNATURES[place % len(SIGNATURES)]:
                disk.seek(place * MIB + offset)
                disk.write(magic)
        for start in (MIB, 63 * 512):
            for signature in SIGNATURES:
                for offset, magic in signature:
                    disk.seek(start + offset)
                    disk.write(magic)
