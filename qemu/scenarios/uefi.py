"""UEFI machines with a GPT: booted by PXE over UEFI, one of them with sectors of 4096 bytes.

Beside what every scenario checks: the firmware has an entry for the clone, behind the network; a finished clone that
boots by PXE again comes up from its disk; and so does one whose firmware has forgotten everything.
"""

import contextlib
import re
from dataclasses import replace

import booted
import clone
from image import MIB
from place import DISKS, LOGS
from scenario import Golden, GoldenDisk, Hardware, NodeDisk, Scenario, Volume
from vm import machine, new_variables

DISK = GoldenDisk(3072 * MIB, "gpt", (
    Volume(1, "vfat", 128 * MIB, "/boot/efi", "umask=0077", label="ESP"),
    Volume(2, "ext4", None, "/", "defaults,errors=remount-ro", label="golden"),
    Volume(3, "swap", 256 * MIB),
))
GOLDEN = Golden(
    "uefi", (DISK,),
    packages=("initramfs-tools", "grub-efi-amd64", "efibootmgr", "dosfstools", "gdisk", "ipxe"),
    initrd_modules=("virtio_pci", "virtio_blk", "ext4", "vfat", "nls_ascii", "nls_cp437"),
    uefi=True,
)

NODES = (
    Hardware((NodeDisk(4096 * MIB),), uefi=True),
    Hardware((NodeDisk(2048 * MIB, sector=4096, used_as="data"),), uefi=True),
)
SCENARIO = Scenario(
    name="uefi",
    about=__doc__,
    golden=GOLDEN,
    nodes=lambda count: [NODES[number % 2] for number in range(count)],
)


def machines(trial):
    """Those of its nodes that start by UEFI."""
    return [node for node in trial.nodes if node.hardware.uefi]


def after_run(trial):
    """PXE once more, with nothing written: the firmware must come from the network to the disk."""
    with trial.report.step("Finished nodes boot by PXE once more"), contextlib.ExitStack() as running:
        vms = {}
        for node in machines(trial):
            drives = [replace(drive, kept=False) for drive in node.drives()]
            vms[node.name] = running.enter_context(machine(
                f"{node.name}-again", drives, LOGS, network=trial.wire, mac=node.mac, pxe=True, **node.options()))
        for node in machines(trial):
            vm = vms[node.name]
            booted.up(vm)
            answers, console = booted.ask(vm), vm.console()
            vm.power_off()
            by_network = booted.NETWORK_BOOT in console
            faults = [] if by_network else ["it did not boot by PXE: the network is not first in its order"]
            faults += [] if "GRUB" in console else ["its console shows no GRUB"]
            identity = clone.identify(node.disks, trial.golden)
            faults += booted.system_faults(answers, node.disk_names(), trial.golden, identity)
            faults += entry_faults(node, trial.golden.disks[0], answers["efi"])
            trial.report.found(node.name, "PXE again", faults)


def entry_faults(node, disk, said):
    """What is wrong with what efibootmgr says: the clone's own entry is there, and a network one is before it."""
    number = next(volume.number for volume in disk.volumes if volume.kind == "vfat")
    parts = clone.image.partitions(node.disks[0].path, node.disks[0].sector)
    esp = next(part for part in parts if part.number == number)
    order = re.search(r"^BootOrder: (\S+)", said, re.MULTILINE)
    entries = dict(re.findall(r"^Boot([0-9A-F]{4})\S*\s+(.*)$", said, re.MULTILINE))
    own = [number for number, text in entries.items() if esp.uuid.lower() in text.lower()]
    if not order or not own:
        return [f"the firmware has no entry for the ESP {esp.uuid}: {said}"]
    numbers = order[1].split(",")
    current = re.search(r"^BootCurrent: (\S+)", said, re.MULTILINE)
    network = [number for number in numbers if "PXE" in entries.get(number, "")]
    faults = [f"its entry {number} is not in the order {numbers}" for number in own if number not in numbers]
    if not current or current[1] not in own:
        faults.append(f"it was not started by its entry {own}: {said}")
    if not network or numbers[0] not in network:
        faults.append(f"network boot is not first: {said}")
    stale = [text for text in entries.values() if "GPT," in text and esp.uuid.lower() not in text.lower()]
    return faults + [f"an entry leads to a partition that is not there: {text}" for text in stale]


def at_the_end(trial):
    """A firmware that has forgotten its entries finds the disk by the fallback path."""
    with trial.report.step("Clones boot with a firmware that has forgotten them"), contextlib.ExitStack() as running:
        vms = {}
        for node in machines(trial):
            options = node.options() | {"uefi": new_variables(DISKS / f"{node.name}-forgotten.vars")}
            vms[node.name] = running.enter_context(machine(f"{node.name}-forgotten", node.drives(), LOGS, **options))
        for node in machines(trial):
            booted.up(vms[node.name])
            vms[node.name].power_off()
            trial.report.found(node.name, "fallback", [])
