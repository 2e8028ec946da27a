"""A golden node with BIOS, cloned with `--firmware auto` onto one that starts by UEFI and one that starts by BIOS.

Its GPT has room for both: a BIOS boot partition, and an EFI system partition with nothing on it.
"""

from dataclasses import replace

from image import MIB
from scenario import BIGGER, SMALLER, GoldenDisk, Hardware, Scenario, Volume
from scenarios import uefi
from scenarios.uefi import after_run, at_the_end

__all__ = ["after_run", "at_the_end"]

DISK = GoldenDisk(3072 * MIB, "gpt", (
    Volume(1, "bios", 4 * MIB),
    Volume(2, "vfat", 128 * MIB, "/boot/efi", "umask=0077", label="ESP"),
    Volume(3, "ext4", None, "/", "defaults,errors=remount-ro", label="golden"),
    Volume(4, "swap", 256 * MIB),
))
NODES = (Hardware((BIGGER,), uefi=True), Hardware((SMALLER,)))
SCENARIO = Scenario(
    name="firmware",
    about=__doc__,
    golden=replace(
        uefi.GOLDEN, name="firmware", disks=(DISK,), uefi=False,
        packages=("initramfs-tools", "grub-pc", "grub-efi-amd64-bin", "efibootmgr", "dosfstools", "gdisk", "ipxe"),
        # What differs below these is left out of the comparison, and so they have to be there.
        commands=("mkdir -p /boot/efi/EFI /boot/grub/x86_64-efi",)),
    nodes=lambda count: [NODES[number % 2] for number in range(count)],
    run_options="--firmware auto",
)
