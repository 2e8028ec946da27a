"""The boot loader cannot be installed on one node: it is told apart, and the others are clones.

What must be known of the failed node: the step and the tool's own words, in kactl's report, in its log and on its
console; and its disk must not be bootable.
"""

from scenario import BIGGER, SMALLER, Golden, Scenario, by_turns
from scenarios.default import DISK
from shell import run
from vm import VmTrouble

WORDS = "no room for a boot loader on this disk"
FAILS = "node2"
WRAPPER = f"""\
#!/bin/sh
if grep -q {FAILS} /sys/block/vda/serial 2>/dev/null; then
    echo "{WORDS}" >&2
    exit 1
fi
exec /usr/sbin/grub-install.real "$@"
"""

SCENARIO = Scenario(
    name="failure",
    about=__doc__,
    golden=Golden("failure", (DISK,), files={"/usr/local/sbin/grub-install-wrapper": WRAPPER}, commands=(
        "mv /usr/sbin/grub-install /usr/sbin/grub-install.real",
        "mv /usr/local/sbin/grub-install-wrapper /usr/sbin/grub-install",
    )),
    nodes=by_turns(BIGGER, SMALLER),
    expect_status=1,
    failing=frozenset({FAILS}),
)


def after_run(trial):
    """What kactl, the node's log and its console say."""
    node = next(node for node in trial.nodes if node.name == FAILS)
    told = [found for found in trial.outcome.report.get("nodes", []) if found["mac"] == node.mac]
    faults = []
    if len(told) != 1 or told[0]["ok"] or WORDS not in (told[0]["reason"] or ""):
        faults.append(f"kactl's report does not say why: {told}")
    log = trial.server.run(f"cat /var/log/ka/*/{node.mac.replace(':', '-')}.log /var/log/ka/*/{node.mac}.log")[1]
    if WORDS not in log:
        faults.append("its log at the controller does not say why")
    console = trial.vms[FAILS].console()
    for words in (WORDS, "press a key for a shell"):
        if words not in console:
            faults.append(f"its console does not say {words!r}")
    trial.report.found(FAILS, "told why", faults)


def at_the_end(trial):
    """Nothing on its disk can be booted."""
    node = next(node for node in trial.nodes if node.name == FAILS)
    tables = run("wipefs", "--noheadings", node.disks[0].path)
    with open(node.disks[0].path, "rb") as disk:
        code = disk.read(440)
    faults = ([f"it still has a table: {tables}"] if tables.strip() else []) \
        + (["it still has boot code"] if any(code) else [])
    trial.report.found(FAILS, "not bootable", faults)
    others = [name for name in trial.vms if name != FAILS]
    if not others:
        raise VmTrouble("this scenario needs another node beside the one that fails: NODES=2 or more")
