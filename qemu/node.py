"""A machine to be cloned onto: its hardware, its disks, and what is known of it."""

from dataclasses import dataclass
from pathlib import Path

import blank
import clone
import image
import vm
from scenario import Hardware

# The kernel's names of disks on a bus, from the first.
DISK_NAMES = {
    "virtio": lambda n: f"vd{chr(ord('a') + n)}", "nvme": lambda n: f"nvme{n}n1",
    "ahci": lambda n: f"sd{chr(ord('a') + n)}", "scsi": lambda n: f"sd{chr(ord('a') + n)}",
}


@dataclass
class Node:
    """One machine to be cloned onto."""

    name: str
    mac: str
    hardware: Hardware
    disks: list[image.Disk]
    variables: Path | None = None  # what its UEFI firmware remembers
    identity: clone.Identity | None = None

    def drives(self):
        return [
            vm.Drive(own.path, bus=disk.bus, sector=own.sector, serial=disk.serial or self.name)
            for own, disk in zip(self.disks, self.hardware.disks)
        ]

    def options(self):
        """How its virtual machine is made, apart from its network."""
        return {"memory": self.hardware.memory, "uefi": self.variables, "second_mac": self.second_mac}

    @property
    def second_mac(self):
        """The address of its second card, if it has one."""
        return self.mac.replace("77:01", "77:02") if self.hardware.second_card else None

    def disk_names(self):
        """What the kernel calls its disks."""
        found, seen = [], {}
        for disk in self.hardware.disks:
            kind = "sd" if disk.bus in ("ahci", "scsi") else disk.bus
            found.append(DISK_NAMES[disk.bus](seen.get(kind, 0)))
            seen[kind] = seen.get(kind, 0) + 1
        return found

    def serials(self):
        return {name: disk.serial or self.name for name, disk in zip(self.disk_names(), self.hardware.disks)}


def make(number, hardware, folder):
    """The machine with this number, from 1, and its used disks."""
    name = f"node{number}"
    disks = []
    for index, disk in enumerate(hardware.disks):
        disks.append(image.Disk(folder / f"{name}-{index}.img", disk.sector))
        blank.make(disks[-1].path, disk)
    variables = vm.new_variables(folder / f"{name}.vars") if hardware.uefi else None
    return Node(name, f"52:54:00:77:01:{number:02x}", hardware, disks, variables)
