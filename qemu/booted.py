"""Is the system that came up from this disk sound? Asked of the running clone itself.

It runs with no network card and no golden node, so whatever it is, it is by itself.
"""

import re

import clone
from vm import VmTrouble

# One command each, because a missing tool must not hide the other answers.
QUESTIONS = {
    "state": "systemctl is-system-running --wait",
    "failed": "systemctl list-units --state=failed --plain --no-legend",
    "cmdline": "cat /proc/cmdline",
    "root": "findmnt --noheadings --raw --output SOURCE,UUID,FSTYPE,OPTIONS /",
    "swap": "swapon --show=NAME,UUID --noheadings --raw",
    "fstab": "cat /etc/fstab",
    "machine-id": "cat /etc/machine-id",
    "links": "ls /sys/class/net",
    "serial": "cat /sys/block/vda/serial",
}


def ask(vm):
    """All answers of a running clone, by question."""
    return {name: vm.run(command)[1].strip() for name, command in QUESTIONS.items()}


def faults(answers, console, vm_name, identity):
    """What is wrong with a booted clone, given its answers, its console and its disk's identity."""
    found = []

    def expect(holds, what):
        if not holds:
            found.append(what)

    expect("GRUB" in console, "its console shows no GRUB")
    expect("iPXE" not in console, "its console shows a network boot")
    cmdline = answers["cmdline"]
    expect(re.search(r"\bBOOT_IMAGE=/boot/vmlinuz-", cmdline), f"not started by GRUB: {cmdline}")
    expect(f"root=UUID={identity.root}" in cmdline.split(), f"root= is not its own {identity.root}: {cmdline}")
    expect(answers["serial"] == vm_name, f"vda is the disk of {answers['serial']}")
    source, uuid, kind, options = (answers["root"].split() + [""] * 4)[:4]
    expect((source, uuid, kind) == ("/dev/vda1", identity.root, "ext4"), f"/ is {answers['root']}")
    expect("rw" in options.split(","), f"/ is not writable: {options}")
    expect(answers["swap"] == f"/dev/vda2 {identity.swap}", f"swap is {answers['swap'] or 'off'}, not /dev/vda2 {identity.swap}")
    found.extend(clone.fstab_text_faults(answers["fstab"], identity))
    expect(re.fullmatch("[0-9a-f]{32}", answers["machine-id"]), f"machine-id is {answers['machine-id']!r}")
    expect(answers["links"].split() == ["lo"], f"has network cards: {answers['links']}")
    expect(answers["state"] == "running", f"systemd says {answers['state']}: {answers['failed']}")
    return found


def shared_ids(ids):
    """Machines that share an identity that each must have for itself; `ids` is by machine name."""
    owners = {}
    for name, value in ids.items():
        owners.setdefault(value, []).append(name)
    return [f"{' and '.join(names)} share {value}" for value, names in owners.items() if len(names) > 1]


def up(vm):
    """Wait until a clone listens for commands; a clone that never does says how far it got."""
    try:
        vm.wait_ready()
    except VmTrouble as trouble:
        last = "\n".join(vm.console().splitlines()[-15:])
        raise VmTrouble(f"{trouble}; the console's end:\n{last}") from trouble
