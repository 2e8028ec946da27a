"""Is the system that came up from this disk sound? Asked of the running clone itself.

It runs with no network card and no golden node, so whatever it is, it is by itself.
"""

import re

import clone
import lvm
from vm import VmTrouble

# What iPXE says when it starts. Its name alone may stand in GRUB's menu as well.
NETWORK_BOOT = "iPXE initialising"

# One command each, because a missing tool must not hide the other answers.
QUESTIONS = {
    "state": "systemctl is-system-running --wait",
    "failed": "systemctl list-units --state=failed --plain --no-legend",
    "cmdline": "cat /proc/cmdline",
    "mounts": "findmnt --noheadings --raw --evaluate --output TARGET,SOURCE,UUID,FSTYPE,OPTIONS --real",
    "swap": "swapon --show=NAME,UUID --noheadings --raw",
    "fstab": "cat /etc/fstab",
    "machine-id": "cat /etc/machine-id",
    # Cards only: a bridge is there without any.
    "cards": "cd /sys/class/net && ls -d */device 2>/dev/null",
    # Virtio and NVMe tell it in a file; SCSI and SATA in a page of vital product data, behind a head of four bytes.
    "serials": "for d in /sys/block/*; do echo ${d##*/} $({ cat $d/serial $d/device/serial;"
               " tail -c +5 $d/device/vpd_pg80; } 2>/dev/null | tr -d '\\0' | head -n 1); done",
    "host-keys": "cat /etc/ssh/ssh_host_*_key.pub",
    "hostname": "cat /proc/sys/kernel/hostname",
    "efi": "test ! -d /sys/firmware/efi || efibootmgr -v",
}


def ask(vm):
    """All answers of a running clone, by question."""
    return {name: vm.run(command)[1].strip() for name, command in QUESTIONS.items()}


def faults(answers, console, disk_names, golden, identity):
    """What is wrong with a booted clone, given its answers, its console, the names that the kernel gives
    its disks (in the order of the golden ones), and its disks' identity."""
    found = []

    def expect(holds, what):
        if not holds:
            found.append(what)

    expect("GRUB" in console, "its console shows no GRUB")
    expect(NETWORK_BOOT not in console, "its console shows a network boot")
    found += system_faults(answers, disk_names, golden, identity)
    expect(not answers["cards"], f"has network cards: {answers['cards']}")
    return found


def system_faults(answers, disk_names, golden, identity, by_grub=True):
    """What is wrong with a clone's system, however it was started."""
    found = []

    def expect(holds, what):
        if not holds:
            found.append(what)

    root_index, root = golden.root
    own_root = identity.uuids[root_index, root.number]
    cmdline = answers["cmdline"]
    expect(not by_grub or re.search(r"\bBOOT_IMAGE=(/boot)?/vmlinuz-", cmdline), f"not started by GRUB: {cmdline}")
    own_root = lvm.node(root) if root.lv else f"UUID={own_root}"
    expect(f"root={own_root}" in cmdline.split(), f"root= is not its own {own_root}: {cmdline}")
    mounted = {line.split()[0]: line.split()[1:] for line in answers["mounts"].splitlines() if len(line.split()) > 4}
    for index, mount in golden.mounts():
        node = node_of(disk_names[index], mount.volume)
        source, uuid, kind, options = (mounted.get(mount.at, []) + [""] * 4)[:4]
        # A subvolume is told in brackets.
        expect((source.split("[")[0], uuid, kind) == (node, identity.uuids[index, mount.volume.number],
                                                      mount.volume.kind),
               f"{mount.at} is {' '.join(mounted.get(mount.at, ['not mounted']))}")
        expect("rw" in options.split(","), f"{mount.at} is not writable: {options}")
        expect(not mount.subvolume or source.endswith(f"[/{mount.subvolume}]"),
               f"{mount.at} is {source}, not the subvolume {mount.subvolume}")
    swaps = sorted(f"{node_of(disk_names[index], volume)} {identity.uuids[index, volume.number]}"
                   for index, volume in golden.swaps())
    own = {identity.uuids[index, volume.number]: lvm.node(volume) for index, volume in golden.swaps() if volume.lv}
    # The kernel numbers logical volumes as they come.
    told = [re.sub(r"^/dev/dm-\d+ (\S+)$", lambda line: f"{own.get(line[1])} {line[1]}", line)
            for line in answers["swap"].splitlines()]
    expect(sorted(told) == swaps, f"swap is {answers['swap'] or 'off'}, not {swaps}")
    found += clone.fstab_text_faults(answers["fstab"], golden, identity)
    expect(re.fullmatch("[0-9a-f]{32}", answers["machine-id"]), f"machine-id is {answers['machine-id']!r}")
    expect(answers["state"] == "running", f"systemd says {answers['state']}: {answers['failed']}")
    return found


def node_of(disk, volume):
    """The device of a volume of the disk that the kernel calls so."""
    return lvm.node(volume) if volume.lv else f"/dev/{partition_name(disk, volume.number)}"


def partition_name(disk, number):
    return f"{disk}p{number}" if disk[-1].isdigit() else f"{disk}{number}"


def serial_faults(answers, names):
    """The disks must be those of this machine: `names` gives the serial number of each."""
    told = dict((line.split() + [""])[:2] for line in answers["serials"].splitlines())
    return [f"{disk} is the disk {told.get(disk)!r}, expected {serial!r}"
            for disk, serial in names.items() if told.get(disk) != serial]


def shared_ids(ids):
    """Machines that share an identity that each must have for itself; `ids` is by machine name."""
    owners = {}
    for name, value in ids.items():
        owners.setdefault(value, []).append(name)
    return [f"{' and '.join(names)} share {value}" for value, names in owners.items() if len(names) > 1]


def marks(answers):
    """What a running clone says of its identity."""
    return clone.Marks(answers["machine-id"], answers["hostname"], clone.keys_of(answers["host-keys"]))


def up(vm):
    """Wait until a clone listens for commands; a clone that never does says how far it got."""
    try:
        vm.wait_ready()
    except VmTrouble as trouble:
        last = "\n".join(vm.console().splitlines()[-15:])
        raise VmTrouble(f"{trouble}; the console's end:\n{last}") from trouble
