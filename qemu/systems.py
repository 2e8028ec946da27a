"""Every clone boots from its own disk, with the golden machine off and no network card."""

import contextlib
import time

import booted
import clone
from booted import shared_ids
from place import LOGS
from vm import VmTrouble, machine

__all__ = ["check_all", "shared_ids"]


def check_all(story):
    """Boot all clones at once, ask them, and look at their disks once more."""
    report = story.report
    answers_of = {}
    with report.step("Clones boot by themselves"), contextlib.ExitStack() as resources:
        started = time.monotonic()
        vms = {
            node.name: resources.enter_context(machine(
                f"{node.name}-boot", node.drives(), LOGS, **node.options()))
            for node in story.sound_nodes() if node.identity
        }
        for node in story.sound_nodes():
            if node.name not in vms:
                report.found(node.name, "boot", ["not tried, its disk is no clone"])
                continue
            vm = vms[node.name]
            try:
                booted.up(vm)
                report.cell(node.name, "boot took", f"{time.monotonic() - started:.1f} s")
                answers_of[node.name] = answers = booted.ask(vm)
                vm.power_off()
            except VmTrouble as trouble:
                report.found(node.name, "boot", [str(trouble)])
                continue
            report.found(node.name, "boot", booted.faults(
                answers, vm.console(), node.disk_names(), story.golden, node.identity)
                + booted.serial_faults(answers, node.serials()))
            report.found(node.name, "after boot", clone.sound(node.disks, story.golden))
    judge_identities(story, answers_of)


def judge_identities(story, answers_of):
    """No two machines alike, and none like the golden one."""
    machine_ids = {name: answers["machine-id"] for name, answers in answers_of.items()}
    if machine_ids:
        story.report.found("all", "own machine-id", shared_ids({"golden": story.before.machine_id} | machine_ids))
    # That none is the golden node's is what the comparison of the trees has shown.
    keys = {f"{name} {kind}": value for name, answers in answers_of.items()
            for kind, value in (line.split()[:2] for line in answers["host-keys"].splitlines() if line.startswith("ssh-"))}
    story.report.found("all", "own SSH host keys", shared_ids(keys))
