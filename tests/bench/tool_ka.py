"""ka as it is released: `kactl send` on the golden node, the static agent on the hosts.

The hosts' TCP has no timestamps, for the agent takes them out where it is the system's first program: on every node that
it clones. `timestamps` leaves them in, as they are on a host that somebody else runs.
"""

import contextlib
import copy
import hashlib
import json
import subprocess
import time
from pathlib import Path

from flow import Flow, Receiver, check_files
from process import Process
from shell import run

CONTROL_PORT = 30765
NULL = Path("/dev/null")


class Ka:
    """Keys and a configuration of its own, in a folder of its own."""

    reports = True
    level = None

    def __init__(self, kactl, agent, home, timestamps=False):
        self.name = "ka, timestamps" if timestamps else "ka"
        self.timestamps = timestamps
        self.kactl, self._agent, self._home = kactl, agent, home
        home.mkdir()
        (home / "ka.toml").write_text(f'[directories]\nrun = "{home}/run"\nkeys = "{home}/keys"\n')
        run(kactl, "--config", home / "ka.toml", "init")

    @property
    def join_key(self):
        """What a host joins with."""
        return self._home / "keys/join.key"

    def beside(self, member):
        """The same, with a hostile member that is first in the chain."""
        other = copy.copy(self)
        other.member = member
        return other

    def with_level(self, level):
        """The same, with a fixed level of compression."""
        other = copy.copy(self)
        other.name, other.level = f"ka, level {level}", level
        return other

    def version(self):
        """As the programs say."""
        return run(self._agent, "--version").split()[-1]

    def start(self, hosts, job):
        """The golden node waits for all hosts; the stream begins when the last one has joined."""
        what = "--dir" if job.tree else "--file"
        # A tree into one file is the stream as it is, a tar.
        into = {host: what if job.sink(host) != NULL else "--file" for host in range(1, hosts.count + 1)}
        member = getattr(self, "member", None)
        # Whoever was deceived, or lost its place for a word, is served again.
        more = ["--order", f"file:{job.scratch}/order", "--rounds", 4] if member else []
        fixed = [f"--level={self.level}"] if self.level else []
        send = Process(hosts.inside(
            0, self.kactl, "--config", self._home / "ka.toml", "send", "--session", "bench", "-n", hosts.count + len(more[:1]),
            what, job.source, "--listen", hosts.address(0), "--json", *more, *fixed), job.scratch / "kactl.log")
        receivers = []
        try:
            hosts.wait_listening(0, CONTROL_PORT, send)
            if member:
                member.join(hosts)
            for host in range(1, hosts.count + 1):
                words = hosts.inside(
                    host, self._agent, "receive", "--controller", hosts.address(0), "--session", "bench",
                    "--key", self._home / "keys/join.key", into[host], job.sink(host), "--window", job.window)
                receivers.append(Receiver(host, Process(words, job.scratch / f"agent{host}.log")))
        except BaseException:
            Flow([send], receivers).stop()
            raise
        return Flow([send], receivers)

    def reported(self, flow, within):
        """The hosts that kactl's report names as failed; it must come within so many seconds of the last host's end."""
        send = flow.golden[0]
        end = time.monotonic() + within
        while send.ended is None and time.monotonic() < end:
            time.sleep(0.01)
        for line in reversed(send.log.read_text(errors="replace").splitlines()):
            with contextlib.suppress(ValueError):
                nodes = json.loads(line)["nodes"]
                # Agents in one namespace share an address, so that failures are counted, not merged.
                failed = [int(node["address"].rsplit(".", 1)[1]) - 1 for node in nodes if not node["ok"]]
                return [host for host in failed if host in {receiver.host for receiver in flow.receivers}]
        return [f"no report: {send.said()}"]

    def check(self, job, survivors):
        """Files by their bytes, trees by what GNU tar makes of them."""
        if not job.tree:
            return check_files(job, survivors)
        return len({tar_digest(tree) for tree in [job.source, *map(job.sink, survivors)]}) == 1


def tar_digest(tree):
    """Size and hash of the GNU tar of a tree: names, owners, modes, times, links, extended attributes, bytes."""
    tar = subprocess.Popen(
        ["tar", "--sort=name", "--format=posix", "--pax-option=delete=atime,delete=ctime", "--numeric-owner",
         "--xattrs", "--xattrs-include=*", "--acls", "-C", tree, "-cf", "-", "."], stdout=subprocess.PIPE)
    digest, size = hashlib.sha256(), 0
    while piece := tar.stdout.read(1 << 20):
        digest.update(piece)
        size += len(piece)
    return size, digest.digest(), tar.wait()
