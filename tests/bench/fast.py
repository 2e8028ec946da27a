"""Lines that are faster than the processors: what ka costs beside mbuffer, and whether it picks the right level."""

import subprocess
from pathlib import Path

import material
from bench import GIB, MIB, Setting

NULL = "/dev/null"


def fast(bench):
    """Unshaped links, receivers that write to /dev/null: random bytes to one host and down a chain, and /usr."""
    mbuffer = bench.peers["mbuffer"]
    golden_goal, node_goal = 1.1, 1.15
    for nodes in (1, 3):
        setting = unshaped(bench, nodes, 3072)
        runs = measure(bench, [bench.ka, mbuffer], setting)
        rate = {name: series.seconds and setting.bytes / series.seconds for name, series in runs.items()}
        target = f"at least 0.8 of mbuffer's rate, CPU of golden node and node at most {golden_goal} and {node_goal} s a GiB"
        for tool in (bench.ka, mbuffer):
            row(bench, "fast, random", tool, setting, runs, target if tool is bench.ka else None, lambda row, rate=rate: (
                rate["ka"] >= 0.8 * rate["mbuffer"] and row["golden_cpu_seconds_per_gib"] <= golden_goal
                and (row["nodes"] > 1 or row["cpu_seconds_per_gib"] <= node_goal)))
    tree = material.tree_of_usr(bench.scratch / "usr", (bench.options.size or 1024) * MIB)
    setting = unshaped(bench, 1, 0, material.tar_bytes(tree))
    runs = measure(bench, [bench.ka, mbuffer], setting, source=tree, tree=True)
    for tool in (bench.ka, mbuffer):
        row(bench, "fast, /usr", tool, setting, runs, "at least mbuffer's rate" if tool is bench.ka else None,
            lambda row, runs=runs: row["seconds"] <= runs["mbuffer"].seconds)


def levels(bench):
    """The level that is chosen beside fixed ones: 100 Mbit/s, 1 Gbit/s and unshaped; random bytes, text, a real tree."""
    for rate, mib in ((100, 64), (1000, 384), (0, 1536)):
        for name, source in materials(bench, mib):
            is_tree = source.is_dir()
            size = material.tar_bytes(source) if is_tree else source.stat().st_size
            setting = Setting(1, rate, size)
            tools = [bench.ka, *(bench.ka.with_level(level) for level in ("none", "-5", "1", "3", "9"))]
            runs = measure(bench, tools, setting, source=source, tree=is_tree)
            best = min((s.seconds for n, s in runs.items() if n != "ka" and s.seconds), default=None)
            for tool in tools:
                row(bench, f"levels, {name}", tool, setting, runs, "at most 1.05 of the best fixed level"
                    if tool is bench.ka else None, lambda row, best=best: best and row["seconds"] <= 1.05 * best)


def materials(bench, mib):
    """Random bytes, text, and files of /usr, one after the other: each is removed before the next is made."""
    mib = bench.options.size or mib
    yield "random", bench.noise(mib * MIB)
    for name, made in (("text", material.text(bench.scratch / f"text-{mib}", mib * MIB)),
                       ("/usr", material.tree_of_usr(bench.scratch / f"usr-{mib}", mib * MIB))):
        yield name, made
        subprocess.run(["rm", "-rf", made], check=True)


def unshaped(bench, nodes, mib, size=None):
    """The setting of links that nothing limits."""
    setting = bench.setting(nodes, 0, mib)
    return Setting(nodes, 0, size or setting.bytes)


def measure(bench, tools, setting, **how):
    """Runs by turns into /dev/null."""
    sinks = {host: Path(NULL) for host in range(1, setting.nodes + 1)}
    return bench.by_turns(tools, setting, sinks=sinks, check=False, **how)


def row(bench, case, tool, setting, runs, target, reached):
    """A row beside mbuffer, or beside ka itself."""
    series = runs[tool.name]
    base = runs["mbuffer" if "mbuffer" in runs else "ka"].seconds
    found = {
        "case": case, "tool": tool.name, "version": tool.version(), "nodes": setting.nodes, "rate_mbit": setting.rate_mbit,
        "bytes": setting.bytes, "window": setting.window, "runs": len(series.outcomes), "seconds": series.seconds,
        "all_seconds": [o.seconds for o in series.outcomes], "limit_seconds": None,
        "added_seconds": series.seconds - base if series.seconds and base else None,
        "added_to": "mbuffer" if "mbuffer" in runs else "ka",
        "cpu_seconds_per_gib": series.median("cpu_seconds") / (setting.bytes / GIB),
        "golden_cpu_seconds_per_gib": series.median("golden_cpu_seconds") / (setting.bytes / GIB),
        "gbit_per_second": series.seconds and setting.bytes * 8e-9 / series.seconds,
        "peak_rss_bytes": max(o.peak_rss for o in series.outcomes), "survivors_correct": None,
        "failed_nodes": max(o.failed_nodes for o in series.outcomes), "target": target, "reached": None,
        "note": "; ".join(sorted({o.note.strip("; ") for o in series.outcomes if o.note}))}
    if target:
        found["reached"] = found["seconds"] is not None and bool(reached(found))
    bench.rows.append(found)
