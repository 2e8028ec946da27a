"""A golden node that its site has configured: quotas and projects, flags, a bridge with a hardware address of its own, a
second card, a unit for swap, and debconf's answers about GRUB.

Beside what every scenario checks, each clone boots once more with its cards. Then it answers the golden node through
its own bridge, and says what the kernel has of all this. By turns, its disk is on another bus.
"""

import contextlib
from dataclasses import replace

import booted
import clone
from check import Exemption
from image import MIB
from place import LOGS
from scenario import Golden, GoldenDisk, Hardware, NodeDisk, Scenario, Selection, Volume
from trial import GOLDEN_MAC
from vm import machine

BRIDGE, BRIDGE_MAC = "br0", "02:00:00:77:00:01"
OTHER_MAC, OTHER_ADDRESS = "52:54:00:77:00:02", "10.88.0.1/24"
PROJECT = 4242
UNITS = "/etc/systemd/system"
ANSWERS = "/var/cache/debconf/config.dat"

DISK = GoldenDisk(3072 * MIB, "dos", (
    Volume(1, "ext4", 2400 * MIB, "/", "defaults,errors=remount-ro", label="golden", bootable=True),
    Volume(2, "swap", 256 * MIB),
    # A third of it is its journal: more than a clone is given.
    Volume(3, "ext4", 64 * MIB, "/srv/small", journal=20),
    Volume(4, "ext4", None, "/home", "defaults,usrquota,grpquota,prjquota", label="home",
           features=("project", "quota"), project=PROJECT),
))
NETWORK = {
    "10-wire.network": f"[Match]\nMACAddress={GOLDEN_MAC}\n\n[Network]\nBridge={BRIDGE}\nLinkLocalAddressing=no\n",
    "20-bridge.netdev": f"[NetDev]\nName={BRIDGE}\nKind=bridge\nMACAddress={BRIDGE_MAC}\n",
    "20-bridge.network": f"[Match]\nName={BRIDGE}\n\n[Network]\nAddress=10.77.0.1/24\nLinkLocalAddressing=no\n",
    "30-other.network": f"[Match]\nMACAddress={OTHER_MAC}\n\n[Network]\nAddress={OTHER_ADDRESS}\nLinkLocalAddressing=no\n",
}
GOLDEN = Golden(
    "machines", (DISK,),
    files={f"/etc/systemd/network/{name}": text for name, text in NETWORK.items()} | {
        f"{UNITS}/dev-vda2.swap": "[Swap]\nWhat=/dev/vda2\n\n[Install]\nWantedBy=swap.target\n",
    },
    commands=(
        "systemctl --quiet enable dev-vda2.swap",
        "echo grub-pc grub-pc/install_devices multiselect /dev/disk/by-id/virtio-golden | debconf-set-selections",
    ),
    swap_in_fstab=False,
    serves_on=BRIDGE,
    second_mac=OTHER_MAC,
)
NODES = (
    Hardware((NodeDisk(4096 * MIB, "scsi"),), second_card=True),
    Hardware((NodeDisk(4096 * MIB),), second_card=True),
)
HOSTS = "".join(rf"52:54:00:77:01:{n:02x} clone{n:02d} 10.77.0.{100 + n}/24\n" for n in range(1, 10))

SCENARIO = Scenario(
    name="machines",
    about=__doc__,
    golden=GOLDEN,
    nodes=lambda count: [NODES[number % 2] for number in range(count)],
    selections=(Selection("auto", "vda"),),
    run_options=f"--hosts <(printf '{HOSTS}')",
)

# Whether the kernel keeps quotas of users, groups and projects: quotactl(2) with Q_GETFMT, by Perl, which is everywhere.
QUOTAS = """\
perl -e 'for my $kind (0, 1, 2) {
    my ($format, $device) = ("\\0" x 8, "'$(findmnt -no SOURCE /home)'");
    print syscall(179, 0x800004 << 8 | $kind, $device, 0, $format) ? "off " : "on ";
}'"""
QUESTIONS = {
    "quotas": QUOTAS,
    "home": "findmnt -no OPTIONS /home",
    # Not what ext4 itself decides: extents, inline data, an index.
    # lsattr complains of links and devices, which have no flags; its complaints would cut lines of the console in two.
    "flags": "cd / && { lsattr -Rp home srv/material/flags; lsattr -dp home srv/material/flags; } 2>/dev/null",
    "swap": "swapon --show=NAME --noheadings",
    "swap units": "systemctl list-units --type=swap --state=active --plain --no-legend",
    "bridge": f"cat /sys/class/net/{BRIDGE}/operstate /sys/class/net/{BRIDGE}/address",
    "addresses": f"ip -o -4 address show dev {BRIDGE}",
    "in the bridge": f"for p in /sys/class/net/{BRIDGE}/brif/*; do cat /sys/class/net/${{p##*/}}/address; done",
    "other": f"ip -o -4 address show to {OTHER_ADDRESS.split('/')[0]} | while read n card rest; do"
             " cat /sys/class/net/$card/address; done",
    "debconf": f"sed -n '\\,^Name: grub-pc/install_devices$,,/^$/s/^Value: //p' {ANSWERS}",
}


def ask(vm):
    return {name: vm.run(command)[1].strip() for name, command in QUESTIONS.items()}


def before_run(trial):
    """The golden node has all that its clones are to have."""
    trial.golden_answers = answers = ask(trial.server)
    faults = kept_faults(answers, answers)
    faults += [f"{name}: {answers[name]!r}, expected {wanted!r}" for name, wanted in (
        ("swap", "/dev/vda2"), ("in the bridge", GOLDEN_MAC), ("bridge", f"up\n{BRIDGE_MAC}"), ("other", OTHER_MAC),
        ("debconf", "/dev/disk/by-id/virtio-golden"),
    ) if answers[name] != wanted]
    trial.report.found("golden", "as configured", faults)


def after_run(trial):
    """Each clone with its cards, on the wire of the golden node; nothing that it writes is kept."""
    with trial.report.step("Clones boot with their cards"), contextlib.ExitStack() as running:
        addresses = {}
        for node in trial.sound_nodes():
            drives = [replace(drive, kept=False) for drive in node.drives()]
            vm = running.enter_context(machine(
                f"{node.name}-cards", drives, LOGS, network=trial.wire, mac=node.mac, **node.options()))
            booted.up(vm)
            answers = ask(vm)
            identity = clone.identify(node.disks, trial.golden)
            faults = booted.system_faults(booted.ask(vm), node.disk_names(), trial.golden, identity)
            faults += kept_faults(answers, trial.golden_answers)
            faults += own_faults(answers, node)
            address = f"10.77.0.{100 + int(node.name.removeprefix('node'))}"
            if f" {address}/24 " not in answers["addresses"]:
                faults.append(f"the bridge has {answers['addresses']!r}, expected {address}")
            status, said = trial.server.run(f"ping -c 3 -W 30 {address}")
            if status != 0:
                faults.append(f"the golden node does not reach it by its bridge: {said}")
            addresses[node.name] = answers["bridge"]
            vm.power_off()
            trial.report.found(node.name, "as configured", faults + noted_faults(trial, node))
        notes = {note["kind"]: note["example"] for note in trial.outcome.report.get("notes", ())}
        trial.report.found("golden", "what is not kept", [] if "limits" in notes.get("setting", "") else [
            f"limits of quotas are not among what is not kept: {notes}"])
        trial.report.found("all", "own bridges", booted.shared_ids(addresses | {"golden": f"up\n{BRIDGE_MAC}"}))


def noted_faults(trial, node):
    """The one setting that the disk did not allow must be in the run's result, and nothing else lost."""
    of_node = [found for found in trial.outcome.report.get("nodes", ()) if found.get("mac") == node.mac]
    notes = {note["kind"]: (note["count"], note["example"]) for found in of_node for note in found["notes"]}
    count, example = notes.pop("setting", (0, ""))
    faults = [] if count == 1 and "journal" in example else [f"settings that are not kept: {count} {example}"]
    return faults + [f"noted: {kind} {told}" for kind, told in notes.items() if kind.endswith("_lost")]


def kept_faults(answers, golden):
    """What must be the same as on the golden node."""
    faults = []
    if answers["quotas"] != "on on on":
        faults.append(f"quotas of users, groups and projects are {answers['quotas']}")
    for option in ("usrquota", "grpquota", "prjquota"):
        if option not in answers["home"].split(","):
            faults.append(f"/home has not {option}: {answers['home']}")
    own, expected = (set(map(flags_of, found["flags"].splitlines())) for found in (answers, golden))
    faults += [f"flags or project: {' '.join(line)}, which the golden node has not" for line in sorted(own - expected)]
    faults += [f"flags or project: not {' '.join(line)}" for line in sorted(expected - own)]
    for letters, place in (("P", "home"), ("i", "srv/material/flags/file-i"), ("a", "srv/material/flags/file-a")):
        project = str(PROJECT) if place == "home" else "0"
        if (project, letters, place) not in own:
            faults.append(f"{place} has not the flag {letters} and project {project}")
    return faults


def flags_of(line):
    """A line of `lsattr -p`: project, flags, path; without what ext4 decides by itself."""
    project, flags, path = (line.split(maxsplit=2) + ["", "", ""])[:3]
    return project, "".join(letter for letter in flags if letter not in "-eNI"), path


def own_faults(answers, node):
    """What must be of this node."""
    disk = node.disk_names()[0]
    swap = f"/dev/{disk}2"
    state, _, bridge = answers["bridge"].partition("\n")
    faults = [f"{name}: {answers[name]!r}, expected {wanted!r}" for name, wanted in (
        ("swap", swap), ("in the bridge", node.mac), ("other", node.second_mac)) if answers[name] != wanted]
    if not answers["swap units"]:
        faults.append("no unit has activated its swap")
    if state != "up" or bridge in (BRIDGE_MAC, ""):
        faults.append(f"the bridge is {state} and has the hardware address {bridge}")
    debconf = answers["debconf"]
    if not debconf.startswith("/dev/disk/by-id/") or not debconf.endswith(node.name) or "," in debconf:
        faults.append(f"debconf installs GRUB on {debconf}")
    return faults


def exemptions(node):
    """The unit for swap is named after the clone's own swap space."""
    uuid = node.identity.uuids[0, 2].replace("-", r"\x2d")
    return [
        Exemption(f"{UNITS}{place}/{name}.swap", "[missing]", "named after the swap space")
        for place in ("", "/swap.target.wants") for name in ("dev-vda2", rf"dev-disk-by\x2duuid-{uuid}")
    ]
