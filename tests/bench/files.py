"""Packing and unpacking alone, beside tar and zstd: the same tree, by turns, in the same run.

From and to memory, and from and to a disk: read when nothing of it is in memory, written until it is on the disk.
"""

import contextlib
import shutil
import statistics
import time
from pathlib import Path

import material
from process import Process
from shell import Trouble, run
from tool_ka import tar_digest

TARGET = Path(__file__).resolve().parents[2] / "target"
PACK = TARGET / "release/examples/pack_cost"
UNPACK = TARGET / "static/x86_64-unknown-linux-musl/release/examples/unpack_cost"
GIB = 1 << 30


def pack(bench):
    """Files packed at zstd's level 1, as quickly as `tar c | zstd -1 -T0`, and as small but for a twentieth."""
    with places(bench) as folders:
        for name, (tree, place) in folders.items():
            ours, theirs = place / "tree.ka", place / "tree.tar.zst"
            forget = drop_caches if name == "disk" else lambda: None
            figures = by_turns(bench, place, forget, ka=[PACK, tree, ours], tar=shell(
                f"tar -C {tree} --xattrs --acls -cf - . | zstd -q -1 -T0 -c >{theirs}"))
            sizes = {"ka": ours.stat().st_size, "tar": theirs.stat().st_size}
            rows(bench, f"pack, {name}", tree, figures, "as fast as tar, at most 1.05 of its size",
                 lambda sizes=sizes: sizes["ka"] <= 1.05 * sizes["tar"], None, sizes)


def unpack(bench):
    """Files unpacked, as quickly as `zstd -d | tar xp`."""
    with places(bench) as folders:
        for name, (tree, place) in folders.items():
            ours, theirs, there = place / "tree.ka", place / "tree.tar.zst", place / "unpacked"
            run(PACK, tree, ours)
            run("sh", "-c", f"tar -C {tree} --xattrs --acls -cf - . | zstd -q -1 -T0 -c >{theirs}")

            def empty(there=there):
                shutil.rmtree(there, ignore_errors=True)
                there.mkdir()
                run("sync", "-f", there)
            # ka itself waits for the disk.
            figures = by_turns(bench, place, empty, tar=shell(
                f"zstd -q -d -c {theirs} | tar xp --xattrs --acls -C {there} && sync -f {there}"), ka=[UNPACK, ours, there])
            correct = tar_digest(there) == tar_digest(tree)
            rows(bench, f"unpack, {name}", tree, figures, "as fast as tar", lambda: correct, correct, {})


@contextlib.contextmanager
def places(bench):
    """The golden tree in memory and on the disk, each with a folder for what is made of it."""
    for built in (PACK, UNPACK):
        if not built.exists():
            raise Trouble(f"{built} is missing: `make bench` builds it")
    disk, memory = TARGET / "bench/files", bench.scratch / "files"
    shutil.rmtree(disk, ignore_errors=True)
    disk.mkdir(parents=True)
    memory.mkdir()
    try:
        tree = bench.tree()
        run("cp", "-a", tree, disk / "tree")
        yield {"memory": (tree, memory), "disk": (disk / "tree", disk)}
    finally:
        shutil.rmtree(disk, ignore_errors=True)
        shutil.rmtree(memory, ignore_errors=True)


def shell(line):
    """A pipeline that fails if any part of it does."""
    return ["bash", "-c", f"set -o pipefail; {line}"]


def drop_caches():
    """Nothing of any file is in memory."""
    run("sync")
    Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")


def by_turns(bench, place, before, **tools):
    """Seconds and CPU seconds of every run of each tool."""
    figures = {name: [] for name in tools}
    for _ in range(bench.options.runs):
        for name, words in tools.items():
            before()
            began = time.monotonic()
            process = Process(list(map(str, words)), place / f"{name}.log")
            while process.ended is None:
                process.note_memory()
                time.sleep(0.01)
            if not process.ok:
                raise Trouble(f"{words}: {process.said()}")
            figures[name].append((process.ended - began, process.cpu_seconds, process.peak_rss))
    return figures


def rows(bench, case, tree, figures, target, well, correct, sizes):
    """A row for each tool; ka's says whether it was as fast as tar and did `well`."""
    size = material.tar_bytes(tree)
    seconds = {name: statistics.median(run[0] for run in runs) for name, runs in figures.items()}
    for name in ("ka", "tar"):
        runs = figures[name]
        bench.rows.append({
            "case": case, "tool": name, "nodes": 0, "rate_mbit": 0, "bytes": size, "runs": len(runs),
            "seconds": seconds[name], "all_seconds": [run[0] for run in runs], "limit_seconds": None,
            "added_seconds": seconds[name] - seconds["tar"], "added_to": "tar",
            "cpu_seconds_per_gib": statistics.median(run[1] for run in runs) / (size / GIB),
            "peak_rss_bytes": max(run[2] for run in runs), "survivors_correct": correct if name == "ka" else None,
            "failed_nodes": 0, "target": target if name == "ka" else None,
            "reached": bool(well()) and seconds["ka"] <= seconds["tar"] if name == "ka" else None,
            "note": f"{sizes[name] / size:.3f} of its bytes" if sizes else ""})
