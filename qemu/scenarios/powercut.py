"""The power goes while a node is cloned: afterwards its disk does not boot, or the clone on it is complete.

A cut falls into each of the phases that the controller tells (preparing, receiving, finishing), at a moment that SEED
decides; with CUTS=4 another falls on the last steps, and more begin from the first again. The disk has a cache: what
was not flushed is lost in part (volatile.py). Then the disk is judged by its bytes, and by a firmware that tries to boot
it. At the end a node is cloned as ever, by the same golden machine.
"""

import os
import random
import time
from dataclasses import replace

import booted
import clone
import node as nodes
import product
import volatile
from place import DISKS, LOGS
from scenario import BIGGER, SMALLER, Scenario, by_turns
from scenarios.default import GOLDEN
from shell import ToolFailed, run
from vm import PATIENCE, VmTrouble, machine

SCENARIO = Scenario(name="powercut", about=__doc__, golden=GOLDEN, nodes=by_turns(BIGGER, SMALLER), nodes_by_default=1)
FIRST = 100  # the number of the first machine whose power is cut
CUTS, SEED = 3, 1

# A node's preparing takes less than a second, so its steps tell how far it is; what is received counts by the bytes. Of
# the finishing this is the first half, in seconds.
PREPARING = ("Check the disks", "Write the partition table of vda", "Make ext4", "Make swap", "Mount the new file systems")
RECEIVING = "receive the system ..."
FINISHING = 60
LAST_STEPS = "unmount the new file systems ..."
MOMENTS = ("preparing", "receiving", "finishing", "the last steps")

NOTHING, OLD, GRUB = "No bootable device", "STALE BOOT CODE RAN", "GRUB"
# A table without boot code has the mark of a boot sector all the same: SeaBIOS jumps into zeros, and is never heard again.
BEGINS, SILENT, SILENCE = "Booting from Hard Disk", "silence", 20


def before_run(trial):
    """All cuts, with a machine and a run each."""
    cuts, seed = int(os.environ.get("CUTS") or CUTS), int(os.environ.get("SEED") or SEED)
    trial.report.note(f"{cuts} cuts, SEED={seed}")
    product.serve_pxe(trial.server, trial.scenario.pxe_options)
    hardware = trial.scenario.nodes(cuts)
    for number in range(cuts):
        moment, chance = MOMENTS[number % len(MOMENTS)], random.Random(f"{seed} {number}")
        node = nodes.make(FIRST + number, hardware[number], DISKS)
        with trial.report.step(f"{node.name}: its power is cut in {moment}"):
            judge(trial, node, cut(trial, node, moment, chance))
        node.disks[0].path.unlink()
    product.stop_pxe(trial.server)


def cut(trial, node, moment, chance):
    """Clones onto the machine until its power is cut; returns what was on its disk before."""
    server, path = trial.server, node.disks[0].path
    before = digest(path)
    product.start_other_run(server, trial.scenario.selections, f"--yes --session {node.name}")
    with volatile.disk(path) as disk:
        drives = [replace(drive, path=disk.address, cache="writeback") for drive in node.drives()]
        with machine(node.name, drives, LOGS, network=trial.wire, mac=node.mac, pxe=True, **node.options()) as vm:
            wait_for_moment(trial, vm, node, moment, chance)
            vm.kill()
            # Nobody has missed it yet.
            said = [line for line in product.other_log(server).splitlines() if line.startswith(f"  {node.mac}")]
        unflushed, lost = disk.cut(chance)
    product.stop_other_run(server)
    phase = said[-1].split()[1] if said else "nothing"
    trial.report.note(f"the controller's last word was {phase!r}; {lost} of {unflushed} unflushed writes are lost")
    too_late = {MOMENTS[0]: RECEIVING in vm.console(), MOMENTS[3]: False}.get(moment, phase != moment)
    if too_late:
        trial.report.found(node.name, "cut", [f"it came after {moment}"])
    return before


def wait_for_moment(trial, vm, node, moment, chance):
    """Until the phase has begun, and then a part of it."""
    if moment in (MOMENTS[0], MOMENTS[3]):
        step = LAST_STEPS if moment == MOMENTS[3] else chance.choice(PREPARING)
        wait_for(vm, lambda: step in vm.console(), step, 0.02)
        time.sleep(chance.uniform(0, 1 if moment == MOMENTS[3] else 0.1))
        trial.report.note(f"a moment after {step!r}")
        return
    wait_for(vm, lambda: any(node.mac in line and moment in line.split()
                             for line in product.other_log(trial.server).splitlines()), moment)
    if moment == "receiving":
        wanted = chance.uniform(0.02, 0.9) * trial.before.size
        wait_for(vm, lambda: product.other_sent(trial.server) >= wanted, f"{wanted / 1e6:.0f} MB")
    else:
        time.sleep(chance.uniform(0, FINISHING))


def wait_for(vm, condition, what, pause=0.1):
    deadline = vm.clock.now() + PATIENCE
    while not condition():
        vm.check()
        if not vm.running() or vm.clock.now() > deadline:
            raise VmTrouble(f"{vm.name} did not come to {what}; see {vm.log}")
        time.sleep(pause)


def judge(trial, node, before):
    """Nothing boots, or all of it: by the disk's bytes, and by a firmware that tries."""
    path, report = node.disks[0].path, trial.report
    with open(path, "rb") as disk:
        sector = disk.read(512)
    has_code = any(sector[:440]) and sector[510:] == b"\x55\xaa"
    try:
        last = try_to_boot(node)
    except VmTrouble as trouble:
        report.found(node.name, "half a system", [str(trouble)])
        return
    report.note(f"its first sector has {'boot' if has_code else 'no boot'} code; the firmware ends with {last!r}")
    faults = []
    if has_code != (last in (OLD, GRUB)):
        faults.append("the bytes of the first sector and the firmware don't agree")
    if last == OLD and digest(path) != before:
        faults.append("its former system boots, and the disk has changed")
    if last == GRUB:
        faults += completeness_faults(trial, node)
    report.found(node.name, "half a system", faults)


def try_to_boot(node):
    """Which of the possible ends the firmware comes to; nothing of it stays on the disk."""
    drives = [replace(drive, kept=False) for drive in node.drives()]
    with machine(f"{node.name}-boot", drives, LOGS, **node.options()) as vm:
        deadline, began = vm.clock.now() + PATIENCE, None
        while True:
            said = vm.console()
            for last in (NOTHING, OLD, GRUB):
                if last in said:
                    if last == GRUB:
                        booted.up(vm)
                    return last
            if BEGINS in said:
                began = began or vm.clock.now()
                if vm.clock.now() - began > SILENCE:
                    return SILENT
            if not vm.running() or vm.clock.now() > deadline:
                raise VmTrouble(f"{vm.name}: the firmware came to no end; see {vm.log}")
            time.sleep(0.2)


def completeness_faults(trial, node):
    """As every clone is judged."""
    faults = clone.table_faults(node.disks, trial.golden)
    if faults:
        return faults
    try:
        identity = clone.identify(node.disks, trial.golden)
    except ToolFailed as error:
        return [str(error)]
    tree = clone.tree(node.disks, trial.golden, {})
    differences, _ = clone.tree_faults(tree, trial.before.tree, trial.exemptions("exceptions.txt"))
    return clone.file_system_faults(node.disks, trial.golden) + differences \
        + clone.fstab_faults(node.disks, trial.golden, identity)


def digest(path):
    return run("sha256sum", path).split()[0]
