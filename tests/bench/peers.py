"""The peers, each with the settings that its own documentation recommends.

mbuffer: a chain, each host writing to its sink and to the next host; 128 KiB blocks.
udpcast: multicast over a switch: --full-duplex, and start when the last receiver is there (--min-receivers).
aria2: BitTorrent with opentracker; nothing is limited, every host seeds until all are complete, and DHT, local
discovery and file allocation, which cannot help here, are off.
"""

import hashlib
import os

from flow import Flow, Receiver, check_files
from process import Process
from shell import package, run

PORT = 9000
TRACKER_PORT = 6969


class Peer:
    """What they have in common: their verdict is the hash of every copy."""

    reports = False
    timestamps = True

    def version(self):
        """The Debian package's."""
        return package(self.package)

    def start(self, hosts, job):
        """Starts it, and leaves nothing behind if that fails."""
        flow = Flow([], [])
        try:
            self.fill(flow, hosts, job)
        except BaseException:
            flow.stop()
            raise
        return flow

    def check(self, job, survivors):
        """The copies against the source."""
        return check_files(job, survivors)


class Mbuffer(Peer):
    """Started from the chain's end, for each member connects to the next one at once."""

    name = package = "mbuffer"

    def fill(self, flow, hosts, job):
        for host in range(hosts.count, 0, -1):
            onwards = ["-O", f"{hosts.address(host + 1)}:{PORT}"] if host < hosts.count else []
            words = hosts.inside(host, "mbuffer", "-q", "-s", "128k", "-f", "-I", PORT, "-o", job.sink(host), *onwards)
            receiver = Receiver(host, Process(words, job.scratch / f"mbuffer{host}.log"))
            flow.receivers.append(receiver)
            hosts.wait_listening(host, PORT, receiver.process)
        send = f"mbuffer -q -s 128k -O {hosts.address(1)}:{PORT}"
        line = f"tar -C {job.source} --xattrs --acls -cf - . | {send}" if job.tree else f"{send} -i {job.source}"
        flow.golden.append(Process(hosts.inside(0, "sh", "-c", line), job.scratch / "mbuffer0.log"))


class Udpcast(Peer):
    """One sender, multicast."""

    name = package = "udpcast"

    def fill(self, flow, hosts, job):
        for host in range(1, hosts.count + 1):
            words = hosts.inside(host, "udp-receiver", "--nokbd", "--interface", "eth0", "--file", job.sink(host))
            flow.receivers.append(Receiver(host, Process(words, job.scratch / f"udpcast{host}.log")))
        words = hosts.inside(0, "udp-sender", "--nokbd", "--full-duplex", "--interface", "eth0",
                             "--min-receivers", hosts.count, "--file", job.source)
        flow.golden.append(Process(words, job.scratch / "udpcast0.log"))


class Aria2(Peer):
    """BitTorrent: a tracker and a seeder on host 0."""

    name = package = "aria2"

    def version(self):
        return f"{package('aria2')} with opentracker {package('opentracker')}"

    def fill(self, flow, hosts, job):
        site = job.scratch / "torrent"
        site.mkdir(exist_ok=True)
        torrent, home = site / "job.torrent", site / "tracker"
        torrent.unlink(missing_ok=True)
        run("mktorrent", "-l", "20", "-a", f"http://{hosts.address(0)}:{TRACKER_PORT}/announce", "-o", torrent, job.source)
        home.mkdir(exist_ok=True)
        # Debian's opentracker knows only listed torrents; it runs as nobody, in its folder.
        (home / "list").write_text(info_hash(torrent) + "\n")
        os.chmod(home / "list", 0o644)
        tracker = Process(hosts.inside(0, "opentracker", "-i", hosts.address(0), "-p", TRACKER_PORT, "-P", TRACKER_PORT,
                                       "-d", home, "-u", "nobody", "-w", "list"), job.scratch / "opentracker.log")
        flow.golden.append(tracker)
        hosts.wait_listening(0, TRACKER_PORT, tracker)
        seeder = Process(hosts.inside(0, *self._words(job.source.parent, torrent), "--bt-seed-unverified=true"),
                         job.scratch / "aria0.log")
        flow.golden.append(seeder)
        hosts.wait_listening(0, PORT, seeder)
        for host in range(1, hosts.count + 1):
            folder = job.sink(host).parent
            mark, hook = folder / "complete", folder / "hook"
            mark.unlink(missing_ok=True)
            hook.write_text(f"#!/bin/sh\n: > '{mark}'\n")
            hook.chmod(0o755)
            words = hosts.inside(host, *self._words(folder, torrent), f"--on-bt-download-complete={hook}")
            # The torrent carries the source's name; the sink is where the others put theirs.
            words.append(f"--index-out=1={job.sink(host).name}")
            flow.receivers.append(Receiver(host, Process(words, job.scratch / f"aria{host}.log"), mark))

    def _words(self, folder, torrent):
        return ["aria2c", "--no-conf", "--quiet", "--dir", folder, "--listen-port", PORT, "--enable-dht=false",
                "--bt-enable-lpd=false", "--file-allocation=none", "--seed-ratio=0.0", "--allow-overwrite=true", torrent]


def info_hash(torrent):
    """The SHA-1 of the torrent's `info` dictionary, in hexadecimal: what trackers know it by."""
    data = torrent.read_bytes()

    def skip(at):
        if data[at:at + 1] in (b"d", b"l"):
            at += 1
            while data[at:at + 1] != b"e":
                at = skip(at)
            return at + 1
        if data[at:at + 1] == b"i":
            return data.index(b"e", at) + 1
        colon = data.index(b":", at)
        return colon + 1 + int(data[at:colon])

    start = data.index(b"4:info") + len(b"4:info")
    return hashlib.sha1(data[start:skip(start)]).hexdigest()
