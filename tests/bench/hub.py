"""What nodes that only live cost the controller."""

import statistics

from shell import run

NODES, SECONDS, MOST = 1000, 20, 0.03
TARGET = "at most 3 % of a core"


def hub(bench):
    """1,000 nodes with a heartbeat per second each, over real sockets."""
    nodes = bench.options.nodes or (100 if bench.options.quick else NODES)
    words = ("bash", "-c", f"ulimit -n $(ulimit -Hn); exec {bench.heartbeats} {nodes} {SECONDS}")
    shares = [share(run(*words)) for _ in range(bench.options.runs)]
    median = statistics.median(shares)
    bench.rows.append({
        "case": "hub", "tool": "ka", "nodes": nodes, "rate_mbit": "-", "bytes": 0, "runs": len(shares),
        "seconds": None, "all_seconds": [], "limit_seconds": None, "added_seconds": None, "added_to": "",
        "cpu_seconds_per_gib": None, "core_share": median, "all_core_shares": shares, "peak_rss_bytes": 0,
        "survivors_correct": True, "failed_nodes": 0, "target": TARGET, "reached": median <= MOST,
        "note": f"{100 * median:.2f} % of a core"})


def share(said):
    """The figure that the example prints last."""
    return float(said.rsplit(",", 1)[1].split()[0]) / 100
