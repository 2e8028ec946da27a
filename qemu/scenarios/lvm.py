"""Root, home and swap in a volume group, onto a larger and a smaller disk by turns.

Beside what every scenario checks: each clone has the group, with the same names and UUIDs of its own, and LVM finds
nothing to complain about.
"""

import re

import lvm
from image import MIB, partitions
from scenario import BIGGER, SMALLER, Golden, GoldenDisk, Scenario, Volume, by_turns

DISK = GoldenDisk(3072 * MIB, "dos", (
    Volume(1, "ext4", 256 * MIB, "/boot", label="boot", bootable=True),
    Volume(2, "lvm"),
    Volume(101, "ext4", 256 * MIB, "/home", lv="home"),
    Volume(102, "ext4", None, "/", "defaults,errors=remount-ro", label="golden", lv="root"),
    Volume(103, "swap", 256 * MIB, lv="swap"),
))
# Else LVM writes the group down at the first boot, and the golden tree is another one.
QUIET = {"/etc/lvm/lvmlocal.conf": "backup { backup = 0 archive = 0 }\n"}
GOLDEN = Golden(
    "lvm", (DISK,),
    packages=("initramfs-tools", "grub-pc", "lvm2"),
    initrd_modules=("virtio_pci", "virtio_blk", "ext4", "dm_mod"),
    files=QUIET,
)

SCENARIO = Scenario(name="lvm", about=__doc__, golden=GOLDEN, nodes=by_turns(BIGGER, SMALLER))


def identifiers(disk):
    """The UUIDs of a machine's group, its physical volume, and its logical volumes."""
    part = next(part for part in partitions(disk.path, disk.sector) if part.number == 2)
    return set(re.findall(r'id = "(\S+)"', lvm.metadata(disk.path, part.start)))


def at_the_end(trial):
    """No two machines share an identifier of LVM's."""
    machines = {"golden": trial.golden_disks[0]} | {node.name: node.disks[0] for node in trial.sound_nodes()}
    seen = {}
    for name, disk in machines.items():
        own = identifiers(disk)
        faults = [] if len(own) == 5 else [f"{len(own)} identifiers in its group, expected 5: {sorted(own)}"]
        faults += [f"{identifier} is {seen[identifier]}'s too" for identifier in own if identifier in seen]
        seen |= {identifier: name for identifier in own}
        trial.report.found(name, "LVM's UUIDs", faults)
