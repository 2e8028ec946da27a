"""The campaign of seeded injections: tests/src/fault/campaign performs and judges them; here they become a row."""

import json
import os
import subprocess
import time
from collections import Counter
from pathlib import Path

from shell import Trouble

TARGET = Path(__file__).resolve().parents[2] / "target"
PROGRAM = TARGET / "release/examples/faults"
AGENT = TARGET / "x86_64-unknown-linux-musl/release/ka-agent"
COUNT = 500
WORKERS = 12
COLUMNS = ("injections", "nodes", "complete", "unproven", "bad")
GOAL = "no false success, no hang above 60 s, every reason true"


def measure(bench):
    """500 seeded injections (SEED says which is the first): disks, processes, commands, sources and links that fail."""
    for built in (PROGRAM, AGENT):
        if not built.exists():
            raise Trouble(f"{built} is missing: `make bench` builds it")
    first, began = int(os.environ.get("SEED") or 0), time.monotonic()
    count = int(os.environ.get("COUNT") or COUNT)
    # Not in the bench's tmpfs: what is sent and received lies on a disk.
    done = subprocess.run([PROGRAM, str(first), str(count), str(WORKERS)], stdout=subprocess.PIPE, text=True, check=False,
                          env=os.environ | {"KA_TEST_AGENT": str(AGENT)})
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    bench.options.out.mkdir(parents=True, exist_ok=True)
    (bench.options.out / "faults.json").write_text(json.dumps(verdicts, indent=1) + "\n")
    (bench.options.out / "faults.md").write_text(table(verdicts))
    if len(verdicts) != count:
        raise Trouble(f"the campaign ended after {len(verdicts)} of {count} injections with status {done.returncode}")
    bench.rows.append(row(verdicts, time.monotonic() - began, bench.ka.version()))


def by_kind(verdicts):
    """What came of each kind of fault: of the nodes, how many were called complete; and how many injections were unproven or bad."""
    kinds = {}
    for v in verdicts:
        kind = kinds.setdefault(v["fault"], Counter())
        kind.update(injections=1, nodes=v["nodes"], complete=v["complete"], unproven=int(v["unproven"]), bad=int(bool(v["findings"])))
    return {name: {key: kinds[name][key] for key in COLUMNS} for name in sorted(kinds)}


def table(verdicts):
    """The same for a person."""
    lines = ["| fault | " + " | ".join(COLUMNS) + " |", "| --- |" + " --- |" * len(COLUMNS)]
    kinds = by_kind(verdicts)
    all_kinds = {key: sum(kind[key] for kind in kinds.values()) for key in COLUMNS}
    for name, kind in [*kinds.items(), ("all", all_kinds)]:
        lines.append(f"| {name} | " + " | ".join(str(kind[key]) for key in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def row(verdicts, seconds, version):
    """One row of the whole campaign."""
    found = {kind: [v for v in verdicts if any(kind in finding for finding in v["findings"])]
             for kind in ("false-success", "hang", "untrue", "broken")}
    bad = sorted(v["seed"] for v in verdicts if v["findings"])
    note = f"replay with SEED=N COUNT=1: {', '.join(map(str, bad))}" if bad else ""
    return {
        "case": "faults", "tool": "ka", "version": version, "nodes": 3, "rate_mbit": 0, "bytes": 0, "runs": 1,
        "seconds": seconds, "all_seconds": [seconds], "limit_seconds": None, "added_seconds": None, "added_to": "-",
        "cpu_seconds_per_gib": None, "peak_rss_bytes": 0,
        "survivors_correct": not found["false-success"], "failed_nodes": 0,
        "injections": len(verdicts), "false_successes": len(found["false-success"]), "hangs": len(found["hang"]),
        "untrue_reasons": len(found["untrue"]), "broken": len(found["broken"]),
        "unproven": sum(v["unproven"] for v in verdicts), "nodes_complete": sum(v["complete"] for v in verdicts),
        "kinds": by_kind(verdicts), "failed_seeds": bad,
        "target": GOAL, "reached": not bad, "note": note}
