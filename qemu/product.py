"""ka as the harness uses it: how it is installed, and its commands on the golden node.

All command lines of the product are here, and nowhere else in the harness.
"""

import json
import os
import re
import shlex
import time
from dataclasses import dataclass, field

from place import older_than_the_host
from shell import run
from vm import PATIENCE, VmTrouble

RANGE = "10.77.0.50,10.77.0.99"
DEAD_AFTER = 15  # seconds; several VMs on two cores stall for longer than real machines do
OUTPUT = "/run/ka-test"  # where long-running commands write, outside of the disk
LEASES = "/run/ka/runs"  # a file here says that a run waits for nodes
NAMES = "clone%02d"  # of the nodes

RUN_PATIENCE = 1200
STATIC_KACTL = "target/static/x86_64-unknown-linux-musl/release/kactl"


def install(source, root):
    """Put ka into a golden tree. What it writes lies below /usr, on the root's own file system."""
    clean = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    make = ("make", "--no-print-directory", "-C", source)
    words = ()
    if older_than_the_host():
        run(*make, "static-kactl", env=clean)
        words = (f"KACTL={STATIC_KACTL}",)
    run(*make, "install", f"DESTDIR={root}", *words, env=clean)


def init(golden):
    """Keys and settings; the nodes' kernels need the golden one's help against a busy host (golden.GRUB_DEFAULTS)."""
    golden.must("kactl init")
    golden.must(r"""sed -i -E 's/^#(console = ".*)"/\1 no_timer_check"/' /etc/ka/ka.toml && grep no_timer /etc/ka/ka.toml""")


def make_image(golden):
    """Make the boot image and stage2; returns the size of each of their files in bytes, and the seconds that it took."""
    started = golden.clock.now()
    golden.must("kactl image", RUN_PATIENCE)
    seconds = golden.clock.now() - started
    sizes = golden.must("cd /var/lib/ka && stat -c '%s %n' boot/vmlinuz boot/all.rdz && du -sb stage2")
    return {name: int(size) for size, name in (line.split(maxsplit=1) for line in sizes.splitlines())}, seconds


def describe(golden, disk):
    """The desc of a golden disk."""
    return golden.must(f"kactl desc {disk} > {desc(disk)} && cat {desc(disk)}")


def desc(disk):
    """Where the desc of a golden disk is."""
    return f"/tmp/desc-{disk}"


def serve_pxe(golden, options="", interface="eth0"):
    """Start the boot server; `options` take the place of its range of addresses."""
    golden.must(f"mkdir -p {OUTPUT}; setsid kactl pxe --interface {interface} {options or f'--range {RANGE}'}"
                f" > {OUTPUT}/pxe.log 2>&1 < /dev/null & echo $! > {OUTPUT}/pxe.pid")
    wait_for(golden, "ss -Huln sport = :69 | grep -q .", "kactl pxe to serve TFTP", f"{OUTPUT}/pxe.log")


def stop_pxe(golden):
    golden.must(f"kill $(cat {OUTPUT}/pxe.pid)")
    wait_for(golden, "! ss -Huln sport = :69 | grep -q .", "kactl pxe to end", f"{OUTPUT}/pxe.log")


def quoted(text):
    """As one word of a command line."""
    return shlex.quote(text)


def run_command(nodes, selections, options=""):
    """The command line of the run."""
    disks = " ".join(f"-p {shlex.quote(selection.pick)}" + (f" {desc(selection.golden)}" if selection.described else "")
                     for selection in selections)
    who = "" if "--nodes" in options else "--yes"
    return f"kactl run -n {nodes} {disks} {who} --hostname {NAMES} --json --dead-after {DEAD_AFTER} {options}"


def start_run(golden, nodes, selections, options=""):
    """Start the run and wait until it waits for nodes; `poll_run` tells how it goes on."""
    launch(golden, run_command(nodes, selections, options))


def launch(golden, command):
    """Start a command that holds a run, and wait until it waits for nodes."""
    script = f"{command} > {OUTPUT}/run.json 2>> {OUTPUT}/run.log < /dev/null; echo $? > {OUTPUT}/run.status"
    golden.must(f"mkdir -p {OUTPUT}; rm -f {OUTPUT}/run.status; setsid bash -c {shlex.quote(script)}"
                f" >> {OUTPUT}/run.shell 2>&1 < /dev/null & sleep 0")
    wait_for(golden, f"test -s {OUTPUT}/run.status || ls {LEASES}/* > /dev/null", "kactl run to wait for nodes",
             f"{OUTPUT}/run.log")


def kill_run(golden):
    """End the controller as a crash would: every kactl but the boot server."""
    # Quickly: a phase may last for less than a second.
    golden.must(f"""read -r pxe < {OUTPUT}/pxe.pid; for p in /proc/[0-9]*; do read -r name < $p/comm || continue
        test "$name" != kactl || test ${{p##*/}} = $pxe || kill -KILL ${{p##*/}}; done 2> /dev/null; true""")
    wait_for(golden, f"test -s {OUTPUT}/run.status", "the killed run to end", f"{OUTPUT}/run.log")


def resume_run(golden, name="kainstall"):
    """Another process goes on with a run whose process has ended."""
    launch(golden, f"kactl resume {name}")


def start_other_run(golden, selections, options):
    """A run that nobody waits for, until `stop_other_run`."""
    disks = " ".join(f"-p {shlex.quote(selection.pick)} {desc(selection.golden)}" for selection in selections)
    golden.must(f"rm -f {OUTPUT}/other.log; setsid kactl run -n 1 {disks} {options} > {OUTPUT}/other.log 2>&1 < /dev/null"
                f" & echo $! > {OUTPUT}/other.pid")
    wait_for(golden, f"grep -q 'waiting for' {OUTPUT}/other.log", "another run to wait for nodes",
             f"{OUTPUT}/other.log")


def stop_other_run(golden):
    golden.run(f"kill $(cat {OUTPUT}/other.pid)")  # unless it has ended by itself
    wait_for(golden, f"! kill -0 $(cat {OUTPUT}/other.pid) 2> /dev/null", "another run to end", f"{OUTPUT}/other.log")


def other_log(golden):
    return golden.run(f"cat {OUTPUT}/other.log")[1]


def other_sent(golden):
    """Bytes that the other run says to have sent: at least, for it says so every few seconds."""
    told = re.findall(r"^\S+: ([0-9.]+) (MB|GB) sent", other_log(golden), re.MULTILINE)
    return max((float(number) * {"MB": 1e6, "GB": 1e9}[unit] for number, unit in told), default=0)


@dataclass
class Outcome:
    """How a run ended."""

    status: int
    log: str
    report: dict = field(default_factory=dict)


def poll_run(golden):
    """The run's outcome, or None while it goes on."""
    status, text = golden.run(f"cat {OUTPUT}/run.status")
    if status != 0 or not text.strip():
        return None
    log = golden.must(f"cat {OUTPUT}/run.log {OUTPUT}/run.shell")
    printed = golden.must(f"cat {OUTPUT}/run.json").strip()
    try:
        report = json.loads(printed)
    except json.JSONDecodeError:
        report, log = {}, log + printed
    return Outcome(int(text), log, report)


def run_log(golden):
    """All that the processes of the run have said."""
    return golden.run(f"cat {OUTPUT}/run.log")[1]


def last_words(golden):
    """What the run said last, for whoever watches."""
    lines = golden.run(f"tail -c 400 {OUTPUT}/run.log")[1].replace("\r", "\n").strip().splitlines()
    return lines[-1] if lines else ""


def logs(golden):
    """What ka's long-running commands have said, by name; for the log folder."""
    names = golden.run(f"cd {OUTPUT} && ls")[1].split()
    return {name: golden.run(f"cat {OUTPUT}/{name}")[1] for name in names}


def wait_for(golden, condition, what, log):
    """Wait until a shell condition holds in the golden VM."""
    deadline = golden.clock.now() + PATIENCE
    while golden.run(condition)[0] != 0:
        if golden.clock.now() > deadline:
            raise VmTrouble(f"gave up waiting for {what}: {golden.run(f'tail -n 50 {log}')[1]}")
        time.sleep(0.5)
