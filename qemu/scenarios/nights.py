"""A small unattended night: the run waits for its time, switches its machines on by their BMCs, goes on without one that
does not wake, and reports to the site's command.

The first machine has a BMC that speaks IPMI (ipmi_sim), the others a site's command. Both only note what is asked of
them; the harness is the mains: it starts a virtual machine when its power is on.
"""

import time

import bmc
import product
from place import LOGS, look_for_tools
from scenario import BIGGER, SMALLER, Golden, Scenario, Selection, by_turns
from scenarios.default import DISK

FOLDER = f"{product.OUTPUT}/night"
GHOST = "52:54:00:77:01:ee"  # nothing is plugged in there
AWAKE = "the run starts in"

# Runs on the golden node as the site's command for power.
COMMAND = f"""cd {FOLDER}; echo "$(date +%s) $KA_ACTION $KA_MAC" >> asked
case $KA_ACTION in
    status) if test -e on-$KA_MAC; then echo on; else echo off; fi;;
    on|cycle) test $KA_MAC = {GHOST} || touch on-$KA_MAC;;
    network-once) ;;
    *) exit 3;;
esac"""
NOTIFY = f"{{ echo event $KA_EVENT run $KA_RUN status $KA_STATUS; cat; }} >> {FOLDER}/notified"

SCENARIO = Scenario(
    name="nights",
    about=__doc__,
    golden=Golden("night", (DISK,), packages=("initramfs-tools", "grub-pc", "ipmitool")),
    nodes=by_turns(BIGGER, SMALLER),
    selections=(Selection("vda", described=False),),
    # A busy machine takes minutes to boot by PXE: only the missing one is woken again.
    run_options=f"--nodes {FOLDER}/nodes --power on --power-retry 10m --bmc {FOLDER}/bmc.toml --notify {product.quoted(NOTIFY)}"
                f" --at \"$(cat {FOLDER}/at)\"",
    woken=True,
)


def before_run(trial):
    """The list of machines, their BMCs, and the time at which the night begins."""
    look_for_tools(("ipmi_sim",))
    trial.bmc = LOGS / "bmc"
    trial.resources.enter_context(bmc.simulator(trial.wire, trial.bmc))
    macs = [node.mac for node in trial.nodes] + [GHOST]
    others = ",".join(macs[1:])
    text = f"""
[[bmc]]
nodes = "{macs[0]}"
method = "ipmi"
address = "{bmc.ADDRESS}"
user = "{bmc.USER}"
password = "{bmc.PASSWORD}"
cipher = 3

[[bmc]]
nodes = "{others}"
method = "command"
command = '''{COMMAND}'''
"""
    lines = "\n".join(macs)
    trial.server.must(f"mkdir -p {FOLDER}; cd {FOLDER}; umask 077; cat > nodes <<'END'\n{lines}\nEND\n"
                      f"cat > bmc.toml <<'END'\n{text}\nEND\n"
                      # At least half a minute is left when the run reads it.
                      "date -d '+90 seconds' '+%Y-%m-%d %H:%M' > at; date -d \"$(cat at)\" +%s > at.seconds")


def meanwhile(trial):
    """The mains: a machine whose power is on runs, once."""
    on = {trial.nodes[0].mac} if bmc.is_on(trial.bmc) else set()
    on |= {name[3:] for name in trial.server.run(f"cd {FOLDER}; ls")[1].split() if name.startswith("on-")}
    for node in trial.nodes:
        if node.mac in on and node.name not in trial.vms:
            trial.report.note(f"{node.name} is switched on")
            trial.vms[node.name] = trial.boot_by_pxe(node)


def after_run(trial):
    """Who was switched on, when, and what the site was told."""
    def seen(name):
        return trial.server.run(f"cat {FOLDER}/{name}")[1]

    faults, report = [], trial.report
    start = int(seen("at.seconds"))
    asked = [line.split() for line in seen("asked").splitlines()]
    early = [line for line in asked if int(line[0]) < start]
    faults += [f"before {start}: {line}" for line in early]
    for node in trial.nodes[1:]:
        wanted = [action for _, action, mac in asked if mac == node.mac and action != "status"]
        if wanted != ["network-once", "on"]:
            faults.append(f"{node.name} was asked for {wanted}")
    if bmc.boot_override(trial.bmc) != "pxe":
        faults.append(f"the BMC boots from {bmc.boot_override(trial.bmc)}")
    if "on" not in [action for _, action, mac in asked if mac == GHOST]:
        faults.append(f"nobody tried to wake {GHOST}")
    told, log = seen("notified"), product.run_log(trial.server)
    report.note(f"the site was told: {told!r}")
    for text, words in (
        (told, f"event end run kainstall status {trial.scenario.expect_status}\n"),
        (told, f"{len(trial.nodes)} of {len(trial.nodes)} complete"),
        (told, f"never appeared {GHOST}"),
        (log, AWAKE),
        (log, f"1 of {len(trial.nodes) + 1} machines never appeared: {GHOST}"),
    ):
        if words not in text:
            faults.append(f"{words!r} is missing: {text[-400:]}")
    if bmc.PASSWORD in log + told:
        faults.append("the BMC's password is in a log")
    report.found("golden", "night", faults)
