"""Nobody is erased by chance, and nobody is installed for ever.

A machine that no run names boots by PXE while a run waits: it must boot from its disk, and nothing of it may change.
A finished node boots by PXE again while another run waits for somebody else: it must come up from its own disk.
"""

import time
from dataclasses import replace

import booted
import clone
import node as nodes
import product
from place import DISKS, LOGS
from scenario import BIGGER, SMALLER, Scenario, by_turns
from scenarios.default import GOLDEN
from shell import run
from vm import PATIENCE, VmTrouble, machine

LIST, OTHERS = "/tmp/nodes", "/tmp/other-nodes"
SCENARIO = Scenario(
    name="loop",
    about=__doc__,
    golden=GOLDEN,
    nodes=by_turns(BIGGER, SMALLER),
    run_options=f"--nodes {LIST}",
)
STRANGER = 200
OWN_BOOT_CODE = "STALE BOOT CODE RAN"


def before_run(trial):
    """The nodes that the run may erase."""
    macs = "\\n".join(node.mac for node in trial.nodes)
    trial.server.must(f"printf '{macs}\\n' > {LIST}; echo 52:54:00:99:99:99 > {OTHERS}")


def before_nodes(trial):
    """While the run waits for its nodes, a machine comes that it does not name."""
    with trial.report.step("A machine that no run names boots by PXE"):
        stranger = nodes.make(STRANGER, replace(trial.nodes[0].hardware), DISKS)
        before = digest(stranger)
        with machine("stranger", stranger.drives(), LOGS, network=trial.wire, mac=stranger.mac, pxe=True,
                     **stranger.options()) as vm:
            deadline = vm.clock.now() + PATIENCE
            while OWN_BOOT_CODE not in vm.console():
                if not vm.running() or vm.clock.now() > deadline:
                    raise VmTrouble(f"the stranger did not boot from its disk; see {vm.log}")
                time.sleep(0.5)
            faults = [] if "PXELINUX" in vm.console() else ["it did not boot by PXE"]
        faults += [] if digest(stranger) == before else ["its disk has changed"]
        trial.report.found("stranger", "untouched", faults)
        stranger.disks[0].path.unlink()


def digest(node):
    return run("sha256sum", node.disks[0].path).split()[0]


def after_run(trial):
    """Another run waits, for somebody else."""
    with trial.report.step("A finished node boots by PXE once more, while a run waits for another"):
        product.start_other_run(trial.server, trial.scenario.selections, f"--nodes {OTHERS} --session other")
        node = trial.nodes[0]
        drives = [replace(drive, kept=False) for drive in node.drives()]
        with machine(f"{node.name}-again", drives, LOGS, network=trial.wire, mac=node.mac, pxe=True,
                     **node.options()) as vm:
            booted.up(vm)
            answers, console = booted.ask(vm), vm.console()
            faults = [] if "PXELINUX" in console else ["it did not boot by PXE"]
            faults += [] if "GRUB" in console else ["its console shows no GRUB"]
            identity = clone.identify(node.disks, trial.golden)
            faults += booted.system_faults(answers, node.disk_names(), trial.golden, identity)
            trial.report.found(node.name, "PXE again", faults)
            vm.power_off()
        product.stop_other_run(trial.server)
