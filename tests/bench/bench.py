"""What the cases measure with: tools, material, hosts, limits, and series of runs, each made once."""

import os
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path

import material
from flow import Job, transfer
from hosts import hosts
from limit import limit_seconds
from peers import Aria2, Mbuffer, Udpcast
from shell import run
from tool_ka import Ka

MIB, GIB = 1 << 20, 1 << 30
LEAST_LIMIT = 0.94
# What an unshaped link carries at the least, in Mbit/s.
SLOWEST_UNSHAPED = 500


@dataclass(frozen=True)
class Setting:
    """How many nodes, over which links, how much, and the agents' window."""

    nodes: int
    rate_mbit: int
    bytes: int
    window: str = "8M"


@dataclass
class Series:
    """The runs of one tool in one setting."""

    outcomes: list

    def median(self, field):
        """The median of a field over the runs that have it."""
        values = [v for v in (getattr(o, field) for o in self.outcomes) if v is not None]
        return statistics.median(values) if values else None

    @property
    def seconds(self):
        """The median time; none when a run did not complete, for then there is nothing to be proud of."""
        return None if any(o.seconds is None for o in self.outcomes) else self.median("seconds")


class Bench:
    """One run of `make bench`."""

    def __init__(self, options, scratch, kactl, agent, examples, store):
        self.options, self.scratch = options, scratch
        aead, self.hostile, self.proof_cost, self.heartbeats = (
            examples / name for name in ("aead_cost", "hostile", "proof_cost", "heartbeats"))
        self._aead, self._store = aead, store
        self.ka = Ka(kactl, agent, scratch / "ka")
        self.ka_with_timestamps = Ka(kactl, agent, scratch / "ka-timestamps", timestamps=True)
        self.peers = {tool.name: tool for tool in (Mbuffer(), Udpcast(), Aria2())}
        self.rows = []
        self._limits, self._clean, self._noise = {}, {}, None

    def ka_hostile(self, member):
        """ka with a member that lies; a folder of its own would mean keys of its own."""
        return self.ka.beside(member)

    def setting(self, nodes, rate_mbit, mib, window="8M"):
        """A case's setting, with what the command line says instead, and an eighth of the bytes when it is to be quick."""
        o = self.options
        size = o.size if o.size else max(8, mib // (8 if o.quick else 1))
        return Setting(o.nodes or nodes, o.rate or rate_mbit, size * MIB, window)

    def limit(self, setting):
        """What iperf3 needs for the bytes, and its share of the rate; a median of three."""
        key = (setting.rate_mbit, setting.bytes)
        if key not in self._limits:
            with hosts(1, setting.rate_mbit) as two:
                tried = [limit_seconds(two, setting.bytes, self.scratch) for _ in range(min(3, self.options.runs))]
            self._limits[key] = statistics.median(t for t, _ in tried), statistics.median(s for _, s in tried)
        return self._limits[key]

    def clean(self, tool, setting, runs=None):
        """Undisturbed runs, which several cases compare with."""
        key = (tool.name, setting)
        if key not in self._clean:
            self._clean[key] = self.series(tool, setting, runs=runs)
        return self._clean[key]

    def side_by_side(self, tools, setting):
        """Undisturbed runs of several tools, which several cases compare with."""
        tools = [tool for tool in tools if (tool.name, setting) not in self._clean]
        for name, series in self.by_turns(tools, setting).items():
            self._clean[name, setting] = series

    def by_turns(self, tools, setting, **how):
        """Runs of several tools by turns, so that a busy moment of the machine is nobody's own."""
        outcomes = {tool.name: [] for tool in tools}
        with hosts(setting.nodes, setting.rate_mbit) as network:
            for _ in range(self.options.runs):
                for tool in tools:
                    outcomes[tool.name].append(self.once(tool, network, setting, **how))
        return {name: Series(runs) for name, runs in outcomes.items()}

    def series(self, tool, setting, fault=None, runs=None, crowded=False, **how):
        """As many runs as are asked for, on hosts of their own."""
        with hosts(setting.nodes, setting.rate_mbit, crowded) as network:
            return Series([self.once(tool, network, setting, fault, **how) for _ in range(runs or self.options.runs)])

    def once(self, tool, network, setting, fault=None, limit=None, check=True, **job):
        """One run; what the processes said is kept when something was wrong."""
        limit = limit or 30 + 6 * setting.bytes * 8 / (setting.rate_mbit or SLOWEST_UNSHAPED) / 1e6
        place = self.scratch / "run"
        place.mkdir()
        job = {"source": self.noise(setting.bytes) if job.get("source") is None else job["source"],
               "sinks": dict(job.get("sinks", {})), "tree": job.get("tree", False)}
        if hasattr(tool, "member"):
            fault = tool.member
        wanted = Job(bytes=setting.bytes, scratch=place, window=setting.window, **job)
        try:
            outcome = transfer(tool, network, wanted, fault, limit, check)
        except BaseException:
            self._keep_logs(place)
            raise
        if outcome.note:
            self._keep_logs(place)
        shutil.rmtree(place, ignore_errors=True)
        return outcome

    def noise(self, size):
        """The file of random bytes of this size; only one is kept."""
        path = self.scratch / f"noise-{size}"
        if self._noise != path:
            if self._noise:
                self._noise.unlink()
            self._noise = material.noise(path, size)
        return path

    def tree(self):
        """The golden tree."""
        folder = self.scratch / "golden"
        return folder if folder.exists() else material.golden_tree(folder, self._store)

    def aead_seconds(self):
        """CPU seconds that the AEAD alone takes for a GiB, as the nodes use it: the median of five."""
        return statistics.median(float(run(self._aead)) for _ in range(5))

    def row(self, case, tool, setting, series, added_to, base, target=None, reached=None, **more):
        """Notes a result. `base` is the time that `added_seconds` is over, named by `added_to`."""
        limit, share = self.limit(setting)
        seconds = series.seconds
        note = "; ".join(sorted({o.note.strip("; ") for o in series.outcomes if o.note}))
        if share < LEAST_LIMIT:
            note = f"iperf3 itself reached only {share:.3f} of the rate: the machine is too busy; {note}"
        correct = [o.survivors_correct for o in series.outcomes if o.survivors_correct is not None]
        row = {
            "case": case, "tool": tool.name, "version": tool.version(), "nodes": setting.nodes,
            "rate_mbit": setting.rate_mbit, "bytes": setting.bytes, "window": setting.window if isinstance(tool, Ka) else None,
            "runs": len(series.outcomes), "seconds": seconds, "all_seconds": [o.seconds for o in series.outcomes],
            "limit_seconds": limit, "limit_share_of_rate": share,
            "added_seconds": None if seconds is None or base is None else seconds - base, "added_to": added_to,
            "cpu_seconds_per_gib": series.median("cpu_seconds") / (setting.bytes / GIB),
            "golden_cpu_seconds_per_gib": series.median("golden_cpu_seconds") / (setting.bytes / GIB),
            "peak_rss_bytes": max(o.peak_rss for o in series.outcomes),
            "survivors_correct": all(correct) if correct else None,
            "failed_nodes": max(o.failed_nodes for o in series.outcomes),
            "load": os.getloadavg()[0], "target": target, "reached": None, "note": note,
        } | more
        if target:
            row["reached"] = bool(reached(row)) and row["survivors_correct"] is not False and row["seconds"] is not None
        self.rows.append(row)
        return row

    def _keep_logs(self, place):
        kept = Path(self.options.out) / "logs"
        kept.mkdir(parents=True, exist_ok=True)
        for log in place.glob("*.log"):
            shutil.copy(log, kept)
