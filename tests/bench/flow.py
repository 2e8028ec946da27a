"""One transfer by one tool: started, perhaps disturbed, awaited, and checked."""

import concurrent.futures
import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path

from clock import Clock


@dataclass
class Job:
    """What is to be transferred, and where to."""

    source: Path
    bytes: int
    scratch: Path
    window: str = "8M"
    # Other sinks than a file on the hosts' tmpfs, by host.
    sinks: dict = field(default_factory=dict)
    # Sends a tree and unpacks it.
    tree: bool = False

    def sink(self, host):
        """Where a host's copy goes."""
        return self.sinks.get(host, self.scratch / f"host{host}" / "copy")


class Receiver:
    """A receiving process. Most tools confirm with their end that a host is complete; one that goes on
    serving others says so in a file of its own."""

    def __init__(self, host, process, mark=None):
        self.host, self.process, self._mark = host, process, mark
        self._marked = None

    def confirmed(self):
        """When the host was complete, or none."""
        if self._mark is None:
            return self.process.ended if self.process.ok else None
        if self._marked is None and self._mark.exists():
            self._marked = time.monotonic()
        return self._marked


@dataclass
class Flow:
    """A running transfer: the processes on the golden node, and the receivers."""

    golden: list
    receivers: list
    # Ends the source's side in order, and gives the hosts that the tool itself reports as failed, or none.
    verdict: object = None

    def processes(self):
        """All of them."""
        return self.golden + [receiver.process for receiver in self.receivers]

    def stop(self):
        """Ends what still runs."""
        for process in self.processes():
            process.stop(patience=3)


@dataclass
class Outcome:
    """What was measured of one transfer; `seconds` is none when the survivors did not all complete in time."""

    seconds: float | None
    survivors_correct: bool | None
    failed_nodes: int
    cpu_seconds: float
    peak_rss: int
    golden_rss: int
    gap: float | None
    note: str = ""
    golden_cpu_seconds: float = 0.0


def transfer(tool, hosts, job, disturb=None, limit=120.0, check=True):
    """Runs one transfer to its end, and checks every survivor's copy. `disturb` is a `faults.Fault`."""
    for host in range(1, hosts.count + 1):
        (job.scratch / f"host{host}").mkdir(exist_ok=True)
    if disturb:
        disturb.prepare(hosts, job)
    hosts.set_timestamps(tool.timestamps)
    clock, flow = Clock(hosts, disturb and disturb.orphan), None
    try:
        flow = tool.start(hosts, job)
        clock.processes = flow.processes()
        victims = disturb.victims if disturb else ()
        survivors = [r for r in flow.receivers if r.host not in victims]
        struck = None
        deadline = time.monotonic() + limit
        while not all([r.confirmed() for r in survivors]):
            now = time.monotonic()
            if now > deadline or any(r.process.ended and not r.process.ok for r in survivors):
                break
            if disturb and struck is None and clock.began and clock.sent >= job.bytes * disturb.at:
                disturb.strike(hosts, flow)
                struck = time.monotonic()
            time.sleep(0.002)
        # What comes after this is not the survivors' time any more.
        ends = [r.confirmed() for r in survivors]
        missing = [r.host for r in survivors if r.confirmed() is None]
        note = f"incomplete: hosts {missing}; " if missing else ""
        if disturb and disturb.heals and not missing:
            disturb.undo(hosts)
            survivors = flow.receivers
            await_all(survivors, disturb.heals)
            if late := [r.host for r in survivors if r.confirmed() is None]:
                note += f"not served in a later round: hosts {late}; "
        failed = sum(1 for r in flow.receivers if r.confirmed() is None)
        if tool.reports and not missing:
            reported = tool.reported(flow, getattr(disturb, "report_within", 10))
            if sorted(reported) != sorted(disturb.reported if disturb else ()):
                note += f"reported as failed: {sorted(reported)}; "
            failed = len(reported)
        seconds = max(ends) - clock.began if clock.began and not missing else None
        gap = clock.longest_gap(struck) if struck and disturb.orphan else None
        if disturb and struck is None:
            note += "the fault came too late; "
            seconds = None
    finally:
        clock.close()
        if flow:
            flow.stop()
        if disturb:
            disturb.undo(hosts)
    correct = None
    if check:
        correct = tool.check(job, [r.host for r in survivors if r.confirmed() is not None]) and not missing
    cpu = [r.process.cpu_seconds for r in survivors]
    return Outcome(seconds, correct, failed, sum(cpu) / len(cpu), max(r.process.peak_rss for r in survivors),
                   max(p.peak_rss for p in flow.golden), gap, note, sum(p.cpu_seconds for p in flow.golden))


def await_all(receivers, patience):
    """Waits until all are complete, or one has failed, or patience ends."""
    end = time.monotonic() + patience
    while time.monotonic() < end and not all([r.confirmed() or r.process.ended for r in receivers]):
        time.sleep(0.01)


def check_files(job, survivors):
    """Whether every copy has the source's hash."""
    def digest(path):
        with open(path, "rb") as data:
            return hashlib.file_digest(data, "sha256").digest()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        try:
            digests = list(pool.map(digest, [job.source, *map(job.sink, survivors)]))
        except FileNotFoundError:
            return False
    return len(set(digests)) == 1


