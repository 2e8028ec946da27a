"""Hostile hosts: what honest ones lose while another one floods, lies, or holds what it opens."""

import statistics
import time
from contextlib import contextmanager

import boot
import floods
from bench import GIB, MIB, Series
from hosts import hosts
from process import Process
from shell import Trouble, run

# The most that the controller may ever have, and how many times the undisturbed time is too much.
MOST_RSS = 100 * MIB
TIMES = 2.0
TARGET = "honest hosts at most twice their undisturbed time, the controller at most 100 MiB"


def hostile(bench):
    """Floods by a host beside the honest ones, and members that lie: what the honest ones lose, and the controller's memory."""
    setting = bench.setting(3, 200, 128)
    program, key = bench.hostile, bench.ka.join_key
    # It is measured on hosts of its own, which have the names that ours are about to take.
    bench.limit(setting)
    with beside(setting) as network:
        undisturbed = Series([bench.once(bench.ka, network, setting) for _ in range(bench.options.runs)])
        note(bench, setting, "none", undisturbed, None)
        base = undisturbed.seconds
        for name, (words, where) in floods.FLOODS.items():
            runs = [bench.once(bench.ka, network, setting, floods.Flood(program, key, *words, **where))
                    for _ in range(bench.options.runs)]
            note(bench, setting, name, Series(runs), base)
        for name, what in floods.MEMBERS.items():
            runs = [bench.once(bench.ka_hostile(floods.Member(program, key, what)), network, setting)
                    for _ in range(bench.options.runs)]
            note(bench, setting, name, Series(runs), base)
    boot_services(bench, program)
    proof(bench)


@contextmanager
def beside(setting):
    """The honest hosts, and behind them a hostile one that no tool knows."""
    with hosts(setting.nodes + 1, setting.rate_mbit) as network:
        network.hostile = setting.nodes + 1
        network.count = setting.nodes
        yield network


def note(bench, setting, flood, series, base):
    """A row: the flood stands where a tool's name does."""
    golden = max(o.golden_rss for o in series.outcomes)

    def reached(row):
        return row["seconds"] <= TIMES * base and golden <= MOST_RSS and row["failed_nodes"] == 0
    bench.row("hostile", bench.ka, setting, series, "undisturbed", base, TARGET if base else None, reached,
              flood=flood, controller_peak_rss_bytes=golden)
    bench.rows[-1]["tool"] = flood


def proof(bench):
    """What the proof against forging relays costs a node, and on the wire."""
    with_it, without, share = (float(word) for word in run(bench.proof_cost).split())
    cost = with_it - without
    bench.rows.append({
        "case": "hostile", "tool": "the proof's cost", "nodes": 1, "rate_mbit": "-", "bytes": GIB, "runs": 3,
        "seconds": None, "all_seconds": [], "limit_seconds": None, "added_seconds": None, "added_to": "without the proof",
        "cpu_seconds_per_gib": cost, "with_cpu_seconds_per_gib": with_it, "without_cpu_seconds_per_gib": without,
        "bytes_share": share, "peak_rss_bytes": 0, "survivors_correct": True, "failed_nodes": 0,
        "target": "at most 0.3 CPU s a GiB and 0.1 % of the bytes", "reached": cost <= 0.3 and share <= 0.001, "note": ""})


def boot_services(bench, program):
    """The same for downloads of the boot image, over HTTP and TFTP."""
    with hosts(2, boot.RATE_MBIT) as network, boot.server(bench, network, boot.FILES) as pxe:
        network.hostile = 2
        # One more machine that has booted: the services are at the machines' network, and at no other address.
        run(*network.inside(2, "ip", "addr", "add", f"{boot.address(boot.MACHINES)}/{boot.PREFIX}", "dev", "eth0"))
        for get, path, flood, name in (("get", "/all.rdz", "unread", "HTTP clients that never read"),
                                       ("tftp", "all.rdz", "unconfirmed", "TFTP requests without ACK")):
            address = f"{boot.SERVER}:{boot.HTTP_PORT if get == 'get' else 69}"
            calm = [download(bench, network, program, get, address, path) for _ in range(bench.options.runs)]
            words = network.inside(network.hostile, program, flood, address, path)
            process = Process([str(word) for word in words], bench.scratch / "flood.log")
            try:
                time.sleep(2)
                rough = [download(bench, network, program, get, address, path) for _ in range(bench.options.runs)]
                if process.ended:
                    raise Trouble(f"the flood has ended: {process.said()}")
            finally:
                process.stop()
            pxe.note_memory()
            for what, seconds, base in ((f"none, {get}", calm, None), (name, rough, statistics.median(calm))):
                add(bench, what, seconds, base, pxe)


def download(bench, network, program, get, address, path):
    """Seconds of one honest download, on host 1; none if it did not come whole."""
    process = Process([str(word) for word in network.inside(1, program, get, address, path)],
                      bench.scratch / "download.log")
    deadline = time.monotonic() + 300
    while process.ended is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.stop()
    if not process.ok:
        print(f"hostile: a download by {get} failed: {process.said()}")
        return None
    seconds, size = process.said().split()
    if int(size) != boot.FILES["all.rdz"]:
        raise Trouble(f"a download of {size} bytes")
    return float(seconds)


def add(bench, flood, all_seconds, base, pxe):
    """A row of a download."""
    failed = sum(1 for seconds in all_seconds if seconds is None)
    seconds = None if failed else statistics.median(all_seconds)
    reached = None if base is None else bool(not failed and seconds <= TIMES * base and pxe.peak_rss <= MOST_RSS)
    bench.rows.append({
        "case": "hostile", "tool": flood, "nodes": 1, "rate_mbit": boot.RATE_MBIT, "bytes": boot.FILES["all.rdz"],
        "runs": len(all_seconds), "seconds": seconds, "all_seconds": all_seconds, "limit_seconds": None,
        "added_seconds": None if base is None or seconds is None else seconds - base, "added_to": "undisturbed",
        "cpu_seconds_per_gib": None, "peak_rss_bytes": pxe.peak_rss, "controller_peak_rss_bytes": pxe.peak_rss,
        "survivors_correct": not failed, "failed_nodes": failed, "flood": flood,
        "target": TARGET if base else None, "reached": reached, "note": ""})
