"""Every clone boots from its own disk, with the golden machine off and no network card."""

import contextlib
import time

import booted
import clone
from booted import shared_ids
from place import LOGS
from vm import VmTrouble, machine

__all__ = ["check_all", "shared_ids"]


def check_all(trial):
    """Boot all clones at once, ask them, and look at their disks once more."""
    report = trial.report
    answers_of = {}
    with report.step("Clones boot by themselves"), contextlib.ExitStack() as resources:
        started = time.monotonic()
        vms = {
            node.name: resources.enter_context(machine(
                f"{node.name}-boot", node.drives(), LOGS, **node.options()))
            for node in trial.sound_nodes() if node.identity
        }
        for node in trial.sound_nodes():
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
                answers, vm.console(), node.disk_names(), trial.golden, node.identity)
                + booted.serial_faults(answers, node.serials()))
            report.found(node.name, "after boot", clone.sound(node.disks, trial.golden))
    judge_identities(trial, answers_of)


def judge_identities(trial, answers_of):
    """No two machines alike, and none like the golden one."""
    marks = {name: booted.marks(answers) for name, answers in answers_of.items()} | {"golden": trial.before.marks}
    if len(marks) == 1:
        return
    kinds = set(trial.before.marks.host_keys)
    lacking = [f"{name} has keys of {sorted(own.host_keys)}, not {sorted(kinds)}"
               for name, own in marks.items() if set(own.host_keys) != kinds]
    keys = {f"{name} {kind}": key for name, own in marks.items() for kind, key in own.host_keys.items()}
    trial.report.found("all", "own machine-id", shared_ids({name: own.machine_id for name, own in marks.items()}))
    trial.report.found("all", "own SSH host keys", lacking + shared_ids(keys))
    trial.report.found("all", "own host name", shared_ids({name: own.hostname for name, own in marks.items()}))
