"""The cases: what each measures, and what ka is to reach in it."""

import boot
import fast
import faults
import files
import hostile
import hub
import injections
import load
import material
from bench import GIB, MIB, Setting

SCALE = (1, 2, 4, 8, 16, 32)
SCALE_PEERS = (8, 32)


def clean(bench):
    """Nothing goes wrong, with every peer, and ka also as it is on hosts that it does not own."""
    setting = bench.setting(8, 400, 512)
    limit, _ = bench.limit(setting)
    guest = bench.ka_with_timestamps
    bench.side_by_side([bench.ka, guest, *bench.peers.values()], setting)
    peers = {name: bench.clean(tool, setting) for name, tool in bench.peers.items()}
    own = bench.clean(bench.ka, setting)
    fastest = peers["mbuffer"].seconds or float("inf")
    bench.row("clean", bench.ka, setting, own, "limit", limit, "at most 1.01 of the limit, and never slower than mbuffer",
              lambda row: row["seconds"] is not None and row["seconds"] <= min(1.01 * limit, fastest))
    bench.row("clean", guest, setting, bench.clean(guest, setting), "limit", limit)
    for name, series in peers.items():
        bench.row("clean", bench.peers[name], setting, series, "limit", limit)


def scale(bench):
    """The same bytes to more and more nodes; the peers that need long only with some."""
    counts = [1, 8, 32] if bench.options.quick else SCALE
    first = {}
    for nodes in counts:
        setting = bench.setting(nodes, 100, 128)
        setting = Setting(nodes, setting.rate_mbit, setting.bytes)
        few = bench.options.quick or nodes not in SCALE_PEERS
        tools = [tool for name, tool in bench.peers.items() if name == "mbuffer" or not few]
        bench.side_by_side([bench.ka, *tools], setting)
        for tool in (bench.ka, *tools):
            series = bench.clean(tool, setting)
            base = first.setdefault(tool.name, series.seconds) if nodes == counts[0] else first.get(tool.name)
            target = "32 nodes at most 0.12 s more than 1 node" if tool is bench.ka and nodes == 32 else None
            bench.row("scale", tool, setting, series, "1 node", base, target,
                      lambda row: row["added_seconds"] is not None and row["added_seconds"] <= 0.12)


def debian(bench):
    """A bootable Debian, from the files packed to the files unpacked."""
    setting = bench.setting(4, 200, 0)
    tree = bench.tree()
    setting = Setting(setting.nodes, setting.rate_mbit, material.tar_bytes(tree))
    series = bench.series(bench.ka, setting, source=tree, tree=True)
    line = setting.rate_mbit * 1e6 / 8

    def share(seconds):
        return setting.bytes / seconds / line if seconds else None
    bench.row("debian", bench.ka, setting, series, "limit", bench.limit(setting)[0], "at least 2.5 of the line's rate",
              lambda row: row["seconds"] is not None and row["of_line_rate"] >= 2.5, of_line_rate=share(series.seconds))


def disturbed(case, most, target, orphan=None):
    """A case in which a fault strikes in mid-transfer."""
    def measure(bench):
        setting = bench.setting(8, 400, 256)
        base = bench.clean(bench.ka, setting).seconds
        series = bench.series(bench.ka, setting, getattr(faults, case)(setting.nodes))
        gaps = [o.gap for o in series.outcomes if o.gap is not None]
        gap = max(gaps, default=None)

        def reached(row):
            in_time = row["added_seconds"] is not None and row["added_seconds"] <= most
            return in_time and not row["note"] and (orphan is None or gap is not None and gap <= orphan)
        bench.row(case, bench.ka, setting, series, "undisturbed", base, target, reached, orphan_stopped_seconds=gap)
    measure.__doc__ = getattr(faults, case).__doc__
    return measure


def slow(bench):
    """One host's link falls to a twentieth. The others must not wait for it for long, and it comes again."""
    setting = bench.setting(8, 400, 256)
    base = bench.clean(bench.ka, setting).seconds
    patience = (base or 60) + 30
    series = bench.series(bench.ka, setting, faults.slow(setting.nodes), limit=patience)
    bench.row("slow", bench.ka, setting, series, "undisturbed", base,
              "others at most 12 s more, and the slow node served in a later round or named",
              lambda row: row["added_seconds"] is not None and row["added_seconds"] <= 12 and not row["note"],
              gave_up_after_seconds=patience)


def cpu(bench):
    """What a node computes: it relays, verifies, and writes to /dev/null."""
    setting = bench.setting(8, 400, 512)
    sinks = {host: "/dev/null" for host in range(1, setting.nodes + 1)}
    mbuffer = bench.series(bench.peers["mbuffer"], setting, sinks=sinks, check=False)
    own = bench.series(bench.ka, setting, sinks=sinks, check=False)
    limit, _ = bench.limit(setting)
    aead = bench.aead_seconds()
    theirs = mbuffer.median("cpu_seconds") / (setting.bytes / GIB)
    bench.row("cpu", bench.ka, setting, own, "limit", limit, "at most 1.1 of mbuffer's and the AEAD's together",
              lambda row: row["cpu_seconds_per_gib"] <= 1.1 * (theirs + aead), aead_cpu_seconds_per_gib=aead,
              allowed_cpu_seconds_per_gib=1.1 * (theirs + aead))
    bench.row("cpu", bench.peers["mbuffer"], setting, mbuffer, "limit", limit)


def memory(bench):
    """The agent's peak, with a small window and a large one."""
    for window in (8, 64):
        setting = bench.setting(8, 400, 256, f"{window}M")
        series = bench.clean(bench.ka, setting)
        bench.row("memory", bench.ka, setting, series, "limit", bench.limit(setting)[0], "at most the window + 24 MiB",
                  lambda row, most=(window + 24) * MIB: row["peak_rss_bytes"] <= most,
                  over_window_bytes=max(o.peak_rss for o in series.outcomes) - window * MIB)


def many(bench, case="many"):
    """200 receivers on one machine; the golden node on another."""
    setting = bench.setting(200, 100, 16)
    series = bench.series(bench.ka, setting, crowded=True, runs=1 if bench.options.quick else None, limit=120)
    golden = max(o.golden_rss for o in series.outcomes)
    bench.row(case, bench.ka, setting, series, "limit", bench.limit(setting)[0],
              "complete, and the controller's memory at most 1 MiB per node",
              lambda row: golden <= setting.nodes * MIB, controller_peak_rss_bytes=golden)


CASES = {
    "clean": clean,
    "scale": scale,
    "debian": debian,
    "pack": files.pack,
    "unpack": files.unpack,
    "kill": disturbed("kill", 0.1, "at most 0.1 s more"),
    "cut": disturbed("cut", 2.2, "at most 2.2 s more, the orphan stops for at most 2 s", orphan=2.0),
    "stop": disturbed("stop", 2.2, "at most 2.2 s more, the orphan stops for at most 2 s", orphan=2.0),
    "cut2": disturbed("cut2", 3.5, "at most 3.5 s more"),
    "writer": disturbed("writer", 0.3, "others at most 0.3 s more, only that node failed"),
    "slow": slow,
    "cpu": cpu,
    "memory": memory,
    "many": many,
    "fast": fast.fast,
    "levels": fast.levels,
    "faults": injections.measure,
    "boot": boot.boot,
    "load": load.load,
    "hostile": hostile.hostile,
    "hub": hub.hub,
}
QUICK = ("clean", "scale", "kill", "cut", "writer", "cpu", "memory")
