"""The results, for people and for programs: a table, a JSON file, and a plot of time over nodes."""

import json
from xml.sax.saxutils import escape

MIB = 1 << 20
COLUMNS = ("case", "tool", "nodes", "Mbit/s", "MiB", "seconds", "limit", "added", "over", "CPU s/GiB", "golden", "RSS MiB",
           "copies", "failed", "reached")
COLOURS = {"ka": "#c0392b", "mbuffer": "#2c7fb8", "udpcast": "#31a354", "aria2": "#8856a7"}


def cells(row):
    """One line of the table."""
    def number(value, digits):
        return "-" if value is None else f"{value:.{digits}f}"
    word = {True: "yes", False: "NO", None: "-"}
    return (row["case"], row["tool"], str(row["nodes"]), str(row["rate_mbit"]), number(row["bytes"] / MIB, 0),
            number(row["seconds"], 2), number(row["limit_seconds"], 2), number(row["added_seconds"], 3), row["added_to"],
            number(row["cpu_seconds_per_gib"], 2), number(row.get("golden_cpu_seconds_per_gib"), 2), number(row["peak_rss_bytes"] / MIB, 1),
            {True: "correct", False: "NOT ALL", None: "-"}[row["survivors_correct"]], str(row["failed_nodes"]),
            word[row["reached"]])


def table(rows):
    """The table as text, with a line below for what is to be said about a row."""
    lines = [COLUMNS, *map(cells, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    text = []
    for line, row in zip(lines, [None, *rows]):
        text.append("  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths))))
        if row and row["target"] and not row["reached"]:
            text.append(f"    NOT REACHED: {row['target']}")
        if row and row["note"]:
            text.append(f"    {row['note']}")
    return "\n".join(text)


def verdict(rows):
    """Which goals were reached, which not, and whose copies were wrong."""
    def said(row):
        return f"  {row['case']}: {row['target']}" + (f" (window {row['window']})" if row["case"] == "memory" else "")
    judged = [row for row in rows if row["target"]]
    wrong = [f"  {row['case']} {row['tool']}, {row['nodes']} nodes" for row in rows if row["survivors_correct"] is False]
    parts = [("reached", [said(row) for row in judged if row["reached"]]),
             ("NOT REACHED", [said(row) for row in judged if not row["reached"]]),
             ("A SURVIVOR'S COPY IS WRONG OR MISSING", wrong)]
    return "\n".join("\n".join([f"{title}:", *lines]) for title, lines in parts if lines)


def store(rows, folder):
    """Writes results.json and, if several node counts were measured, scale.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    points = {}
    for row in rows:
        if row["case"] == "scale" and row["seconds"] is not None:
            points.setdefault(row["tool"], []).append((row["nodes"], row["seconds"]))
    if points:
        limit = max(row["limit_seconds"] for row in rows if row["case"] == "scale")
        (folder / "scale.svg").write_text(plot(points, limit))


def plot(points, limit, width=720, height=420):
    """Time over nodes, a line for each tool, the limit dashed; both axes from 0."""
    left, top, right, bottom = 60, 30, width - 110, height - 50
    most_nodes = max(n for line in points.values() for n, _ in line)
    most = max([limit, *(s for line in points.values() for _, s in line)]) * 1.1

    def x(nodes):
        return left + (right - left) * nodes / most_nodes

    def y(seconds):
        return bottom - (bottom - top) * seconds / most

    def text(at_x, at_y, words, anchor="middle", colour="#333"):
        return f'<text x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="white"/>',
           f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#333"/>',
           text((left + right) / 2, height - 12, "nodes"), text(left, 18, "seconds until the last node is complete", "start")]
    for nodes in sorted({n for line in points.values() for n, _ in line}):
        out += [f'<path d="M{x(nodes):.1f} {bottom}v5" stroke="#333"/>', text(x(nodes), bottom + 18, str(nodes))]
    for tick in range(6):
        seconds = most * tick / 5
        out += [f'<path d="M{left} {y(seconds):.1f}h-5" stroke="#333"/>',
                text(left - 8, y(seconds) + 4, f"{seconds:.1f}", "end")]
    out += [f'<path d="M{left} {y(limit):.1f}H{right}" stroke="#999" stroke-dasharray="5 4"/>',
            text(right + 6, y(limit) + 16, "iperf3", "start", "#777")]
    for place, (tool, line) in enumerate(sorted(points.items(), key=lambda item: -max(item[1])[1])):
        colour = COLOURS.get(tool, "#333")
        path = " ".join(f"{x(n):.1f},{y(s):.1f}" for n, s in sorted(line))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x(n):.1f}" cy="{y(s):.1f}" r="3" fill="{colour}"/>' for n, s in line]
        out.append(text(right + 6, top + 16 * place + 4, f"{tool} {max(line)[1]:.2f} s", "start", colour))
    return "\n".join([*out, "</svg>", ""])
