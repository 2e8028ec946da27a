"""The nodes start the installed system at once, without their firmware, and tell the run that they are up."""

import booted
import clone
from scenario import BIGGER, SMALLER, Scenario, by_turns
from scenarios.default import GOLDEN

# A golden node has an address of its own, so each clone needs one.
HOSTS = "".join(rf"52:54:00:77:01:{n:02x} clone{n:02d} 10.77.0.{100 + n}/24\n" for n in range(1, 10))

SCENARIO = Scenario(
    name="kexec",
    about=__doc__,
    golden=GOLDEN,
    nodes=by_turns(BIGGER, SMALLER),
    run_options=f"--boot kexec --wait-booted --hosts <(printf '{HOSTS}')",
    ends=False,
)


def after_run(trial):
    """Each node comes up in the new system, and nothing but its kernel was started for it."""
    with trial.report.step("Nodes come up without a reboot"):
        for node in trial.nodes:
            vm = trial.vms[node.name]
            booted.up(vm)
            answers, console = booted.ask(vm), vm.console()
            vm.power_off()
            firmware = console.count("SeaBIOS")
            faults = [] if firmware == 1 else [f"its firmware ran {firmware} times"]
            faults += ["its console shows GRUB"] if "GRUB" in console else []
            identity = clone.identify(node.disks, trial.golden)
            faults += booted.system_faults(answers, node.disk_names(), trial.golden, identity, by_grub=False)
            trial.report.found(node.name, "kexec", faults)
