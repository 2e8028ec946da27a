"""The controller is killed in each phase of a run, and the golden machine loses its power once. The nodes wait, another
process goes on with the run each time, and the clones are right.

No disk is written before its machine was admitted, and none more often than a lost stream makes necessary. The desc of
other scenarios is in a file that a reboot removes, so kactl reads the golden disk itself.
"""

import re
import time

import clone
import product
from scenario import BIGGER, SMALLER, Scenario, Selection, by_turns
from scenarios.default import GOLDEN
from vm import VmTrouble

SCENARIO = Scenario(
    name="resume",
    about=__doc__,
    golden=GOLDEN,
    nodes=by_turns(BIGGER, SMALLER),
    nodes_by_default=1,
    selections=(Selection("vda", described=False),),
    streams=3,
)

PHASES = "joined|planned|preparing|ready|receiving|finishing|complete|failed"
TABLE = "Write the partition table"


class Blows:
    """The faults of the controller, in this order; each waits for its moment."""

    def __init__(self):
        self.left = [("stage2", kill), ("preparing", kill), ("receiving", kill), ("receiving", reset), ("finishing", kill)]
        self.heard = 0  # how much of the log belongs to processes that have ended
        self.tables = 1  # how often a disk may be written
        self.late = []

    def look(self, trial):
        """Strikes if the moment has come."""
        if self.left and globals()[f"in_{self.left[0][0]}"](trial, self):
            phase, strike = self.left.pop(0)
            strike(trial, self, phase)


def in_stage2(trial, _):
    return "receive stage2 ..." in console(trial)


def in_preparing(trial, _):
    """It takes less than a second, so the console is watched closely as soon as it can begin."""
    if "join the session kainstall ..." not in console(trial):
        return False
    deadline = time.monotonic() + 60
    while TABLE not in console(trial) and time.monotonic() < deadline:
        time.sleep(0.02)
    return TABLE in console(trial)


def in_receiving(trial, blows):
    """A part of the stream has been sent by this process."""
    return phase_of(new_log(trial, blows)) == "receiving" and sent(new_log(trial, blows)) > 0.1 * trial.before.size


def in_finishing(trial, blows):
    return phase_of(new_log(trial, blows)) == "finishing"


def console(trial):
    return trial.vms[trial.nodes[0].name].console()


def new_log(trial, blows):
    return product.run_log(trial.server)[blows.heard:]


def phase_of(log):
    """The last one that the controller named."""
    found = re.findall(rf"^  \S.*?  ({PHASES})\b", log, re.MULTILINE)
    return found[-1] if found else None


def sent(log):
    """Bytes that the controller says to have sent: at least, for it says so every few seconds."""
    told = re.findall(r"^\S+: ([0-9.]+) (MB|GB)[^\n]* sent", log, re.MULTILINE)
    return max((float(number) * {"MB": 1e6, "GB": 1e9}[unit] for number, unit in told), default=0)


def kill(trial, blows, phase):
    with trial.report.step(f"The controller is killed in {phase}, and another process goes on"):
        product.kill_run(trial.server)
        note(trial, blows, phase)
        blows.heard = len(product.run_log(trial.server))
        go_on(trial)


def reset(trial, blows, phase):
    with trial.report.step(f"The golden machine loses its power in {phase}, boots, and goes on"):
        note(trial, blows, phase)
        trial.reset_golden()
        blows.heard = 0
        product.serve_pxe(trial.server, trial.scenario.pxe_options, trial.golden.serves_on)
        go_on(trial)


def note(trial, blows, phase):
    """What the controller said last decides what its death costs."""
    last = phase_of(new_log(trial, blows))
    trial.report.note(f"its last word was {last!r}")
    blows.tables += last in ("preparing", "ready", "receiving") or phase in ("preparing", "receiving")
    # How far a node is in stage1, and how quickly it prepares its disks, is no word of the controller's.
    if phase in ("receiving", "finishing") and last != phase:
        blows.late.append(f"it was killed after {phase}: its last word was {last!r}")


def go_on(trial):
    product.resume_run(trial.server)
    outcome = product.poll_run(trial.server)
    if outcome:
        raise VmTrouble(f"kactl resume ended at once with {outcome.status}: {outcome.log[-1000:]}")


def before_nodes(trial):
    """A controller that dies before anybody came."""
    trial.blows = Blows()
    kill(trial, trial.blows, "gathering")


def meanwhile(trial):
    trial.blows.look(trial)


def after_run(trial):
    """Every blow fell in its phase, nothing was erased without need, and the node waited all the time."""
    blows, report = trial.blows, trial.report
    report.found("golden", "blows", blows.late + [f"it was never killed in {phase}" for phase, _ in blows.left])
    for node in trial.nodes:
        said = trial.vms[node.name].console()
        tables = said.count(f"{TABLE} of vda ...")
        faults = [] if 1 <= tables <= blows.tables else [f"its disk was written {tables} times, at most {blows.tables} were needed"]
        faults += [] if "is back" in said else ["it never says that the controller is back"]
        report.note(f"{node.name}: {tables} partition tables, {said.count('is back')} times the controller was back")
        report.found(node.name, "waited", faults)
    told = trial.outcome.report.get("nodes", [])
    faults = [] if len(told) == len(trial.nodes) else [f"the report has {len(told)} nodes: {told}"]
    faults += [f"{found['mac']} is not ok: {found}" for found in told if not found["ok"]]
    report.found("golden", "one report", faults)


def at_the_end(trial):
    """The names of the first process are the clones'."""
    names = sorted(clone.marks(node.disks, trial.golden).hostname for node in trial.nodes if node.identity)
    expected = [product.NAMES % number for number in range(1, len(trial.nodes) + 1)]
    trial.report.found("all", "names", [] if names == expected else [f"they are {names}, expected {expected}"])
