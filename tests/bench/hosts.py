"""Hosts that are network namespaces, on a switch that is a bridge in one more namespace.

Every link is shaped in both directions with tbf, at both of its ends, unless its rate is 0: then it carries what the
processors can move, and two hosts are joined by one pair of devices without a switch. Nothing touches the machine's own
network, and all goes away with the namespaces, whose names carry the process id.
"""

import contextlib
import os
import signal
import time

from shell import Trouble, run

# Machines of a crowd.
CROWDED = 1
BURST, LATENCY = "256kb", "50ms"
# The kernel's own default, whatever the machine has: BBR, for one, stops each stream for 0.2 s every 10 s to measure
# its path, and which tool that hits is chance. Set by route, for a namespace may not choose it as its default.
CONGESTION = "cubic"


class Hosts:
    """Host 0 is the golden node, or whatever a peer has for it; hosts 1 to `count` receive.

    With `crowded`, all receivers share one machine, and so one address.
    """

    def __init__(self, count, rate_mbit, crowded=False):
        self.count, self.rate_mbit = count, rate_mbit
        self._machines = min(count, CROWDED) if crowded else count
        self._prefix = f"ka-bench-{os.getpid()}"
        self._wire = f"{self._prefix}-wire"
        self._pair = not rate_mbit and self._machines == 1

    def address(self, host):
        """The address of a host; the order of addresses is the order of hosts."""
        host = self._machine(host)
        return f"10.77.{(host + 1) >> 8}.{(host + 1) & 255}"

    def inside(self, host, *command):
        """The words of a command that runs on a host."""
        return ["ip", "netns", "exec", self._name(host), *(str(word) for word in command)]

    def counters(self):
        """Bytes that each host has sent and received so far, as its port on the switch counts them."""
        found = {}
        with open(f"/proc/{self._holder}/net/dev", encoding="ascii") as lines:
            for line in lines:
                port, _, numbers = line.partition(":")
                fields = numbers.split()
                if port.strip().startswith("port"):
                    found[int(port.strip()[4:])] = (int(fields[0]), int(fields[8]))
                elif self._pair and port.strip() == "eth0":
                    found = {0: (int(fields[8]), int(fields[0])), 1: (int(fields[0]), int(fields[8]))}
        return found

    def cut(self, host):
        """Takes a host's link away, without a word to anybody."""
        run("ip", "-netns", self._wire, "link", "set", f"port{host}", "down")

    def mend(self, host):
        """Gives the link back."""
        run("ip", "-netns", self._wire, "link", "set", f"port{host}", "up")

    def set_rate(self, host, rate_mbit):
        """Changes what a host's link carries, both ways."""
        for namespace, device in ((self._wire, f"port{host}"), (self._name(host), "eth0")):
            run("tc", "-netns", namespace, "qdisc", "change", "dev", device, "root", *self._tbf(rate_mbit))

    def set_timestamps(self, on):
        """Whether the receiving hosts' TCP has timestamps (tcp(7))."""
        for host in range(1, self._machines + 1):
            run(*self.inside(host, "sysctl", "-qw", f"net.ipv4.tcp_timestamps={int(on)}"))

    def wait_listening(self, host, port, process, patience=20):
        """Waits until somebody on the host listens on a TCP port."""
        wanted = f":{port}"
        end = time.monotonic() + patience
        while wanted not in run(*self.inside(host, "ss", "-Hltn")):
            if process.ended or time.monotonic() > end:
                raise Trouble(f"nothing listens on port {port} of host {host}: {process.said()}")
            time.sleep(0.02)

    def _name(self, host):
        return f"{self._prefix}-{self._machine(host)}"

    def _machine(self, host):
        """The machine of a host: its own, unless it is crowded."""
        return host and (host - 1) % self._machines + 1

    def _tbf(self, rate_mbit):
        return ["tbf", "rate", f"{rate_mbit * 1000:.0f}kbit", "burst", BURST, "latency", LATENCY]

    def _build(self):
        for host in range(self._machines + 1):
            run("ip", "netns", "add", self._name(host))
        if self._pair:
            run("ip", "-netns", self._name(0), "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns",
                self._name(1))
            self._hold(self._name(0))
        else:
            self._build_switch()
        for host in range(self._machines + 1):
            lines = ["link set lo up", f"address add {self.address(host)}/16 broadcast + dev eth0", "link set eth0 up",
                     "route add 224.0.0.0/4 dev eth0",
                     f"route replace 10.77.0.0/16 dev eth0 proto kernel scope link src {self.address(host)} "
                     f"congctl {CONGESTION}"]
            run("ip", "-netns", self._name(host), "-batch", "-", input="\n".join(lines) + "\n")
            for namespace, device in ((self._wire, f"port{host}"), (self._name(host), "eth0")) if self.rate_mbit else ():
                run("tc", "-netns", namespace, "qdisc", "add", "dev", device, "root", *self._tbf(self.rate_mbit))

    def _build_switch(self):
        run("ip", "netns", "add", self._wire)
        self._hold(self._wire)
        wire = ["link add name wire type bridge forward_delay 0 stp_state 0 mcast_snooping 0", "link set wire up"]
        for host in range(self._machines + 1):
            wire.append(f"link add port{host} type veth peer name eth0 netns {self._name(host)}")
            wire.append(f"link set port{host} master wire up")
        run("ip", "-netns", self._wire, "-batch", "-", input="\n".join(wire) + "\n")

    def _hold(self, namespace):
        """A process by which the counters of a namespace are read."""
        self._holder = os.posix_spawnp("ip", ["ip", "netns", "exec", namespace, "sleep", "infinity"], os.environ)

    def _remove(self):
        names = [line.split()[0] for line in run("ip", "netns", "list").splitlines() if line]
        for name in names:
            if name.startswith(self._prefix + "-"):
                for pid in run("ip", "netns", "pids", name).split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                run("ip", "netns", "delete", name)
        if holder := getattr(self, "_holder", None):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(holder, 0)


@contextlib.contextmanager
def hosts(count, rate_mbit, crowded=False):
    """A golden node and `count` hosts for one case; taken down in any case, with whatever still runs on them."""
    made = Hosts(count, rate_mbit, crowded)
    try:
        made._build()
        yield made
    finally:
        made._remove()
