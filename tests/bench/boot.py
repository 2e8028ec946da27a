"""Booting: many machines ask `kactl pxe` for an address at once, and then for kernel and initrd, over HTTP and TFTP."""

import json
import os
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

from bench import GIB
from hosts import hosts
from process import Process
from shell import Trouble, run

HERE = Path(__file__).resolve().parent
RATE_MBIT = 1000
# About what they are for Debian's cloud kernel.
FILES = {"vmlinuz": 8_300_000, "all.rdz": 8_500_000}
HTTP_PORT = 30766
# Enough for the largest crowd, with those that are slow beside it.
MACHINES = 1100
# One address more for each machine than the switch's own.
NETWORK, PREFIX, SERVER = "10.78.0.0", 16, "10.78.0.1"


def boot(bench):
    """Addresses for 500 machines at once; kernel and initrd for 10, 100, 500 and 1,000, on one gigabit link."""
    counts = (10, 100) if bench.options.quick else (10, 100, 500, 1000)
    with hosts(1, RATE_MBIT) as network, server(bench, network, FILES) as pxe:
        addresses(bench, network, "boot")
        limit = wire_seconds(bench, network, counts)
        for protocol in ("http", "tftp"):
            for machines in counts if protocol == "http" else counts[:3]:
                size = machines * sum(FILES.values())
                found = crowd(bench, network, protocol, machines, sum(FILES.values()))
                bound = limit(size)
                target = {"http": "at most 1.1 of the wire's time, and all complete"}.get(protocol)
                well = not found["failed"] and found["seconds"] <= 1.1 * bound
                add(bench, "boot", protocol, machines, found, size, target, well, "", bound, pxe)


def addresses(bench, network, case):
    """As many machines as a whole room has ask for an address at once."""
    machines = bench.options.nodes or 500
    found = crowd(bench, network, "dhcp", machines, 0)
    add(bench, case, "dhcp", machines, found, 0, "all have an address within 10 s, without a NAK",
        found["seconds"] <= 10 and not found["refused"] and not found["failed"],
        f"{found['refused']} NAKs, {found['failed']} without an address")


@contextmanager
def server(bench, network, files):
    """`kactl pxe` on host 0, with these files, by their sizes, and the crowd's addresses on host 1."""
    place = bench.scratch / "pxe"
    folder = place / "state/boot"
    folder.mkdir(parents=True)
    place.chmod(0o711)
    for name, size in files.items():
        (folder / name).write_bytes(os.urandom(size))
    folders = {name: str(place / name) for name in ("state", "run", "keys", "log")}
    (place / "ka.toml").write_text("[directories]\n" + "".join(f'{k} = "{v}"\n' for k, v in folders.items()))
    run(*network.inside(0, "ip", "addr", "add", f"{SERVER}/{PREFIX}", "dev", "eth0"))
    lines = [f"addr add {address(number)}/{PREFIX} dev eth0" for number in range(MACHINES)]
    run(*network.inside(1, "ip", "-batch", "-"), input="\n".join(lines) + "\n")
    words = [bench.ka.kactl, "pxe", "--config", place / "ka.toml", "--interface", "eth0", "--address", SERVER,
             "--range", "10.78.128.1,10.78.191.254"]
    pxe = Process([str(word) for word in network.inside(0, *words)], place / "pxe.log")
    try:
        network.wait_listening(0, HTTP_PORT, pxe)
        yield pxe
    finally:
        pxe.stop()
        shutil.rmtree(place, ignore_errors=True)


def address(number):
    """A machine's address."""
    return f"10.78.{64 + number // 250}.{1 + number % 250}"


def wire_seconds(bench, network, _):
    """What bytes take on this wire: a single stream of iperf3 says its rate."""
    from limit import limit_seconds
    seconds, _ = limit_seconds(network, 256 << 20, bench.scratch)
    return lambda size: size * seconds / (256 << 20)


def crowd(bench, network, protocol, machines, size):
    """All machines at once, in one process on host 1, each with that many bytes to load; what it says of them."""
    words = ["python3", HERE / "crowd.py", protocol, machines, SERVER, HTTP_PORT, size]
    process = Process([str(word) for word in network.inside(1, *words)], bench.scratch / f"crowd-{protocol}.log")
    while process.ended is None:
        time.sleep(0.05)
    if not process.ok:
        raise Trouble(f"crowd: {process.said()}")
    return json.loads(process.said().splitlines()[-1])


def add(bench, case, protocol, machines, found, size, target, well, note, limit=None, pxe=None):
    """A row of the table."""
    if pxe:
        pxe.note_memory()
    bench.rows.append({
        "case": case, "tool": protocol, "window": None, "nodes": machines, "rate_mbit": RATE_MBIT, "bytes": size, "runs": 1,
        "seconds": found["seconds"], "all_seconds": [found["seconds"]], "limit_seconds": limit,
        "added_seconds": None if limit is None else found["seconds"] - limit, "added_to": "wire",
        "cpu_seconds_per_gib": None if not size else found["cpu"] / (size / GIB), "peak_rss_bytes": pxe.peak_rss if pxe else 0,
        "survivors_correct": not found["failed"], "failed_nodes": found["failed"], "load": os.getloadavg()[0],
        "target": target, "reached": well if target else None, "note": note})
