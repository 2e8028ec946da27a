"""The cluster's wire: a network namespace with a bridge, and a tap for each VM.

Nothing of it touches the host's own network: the bridge has no way out, and all goes
away with the namespace. Names carry the process id, so that runs don't meet.
"""

import contextlib
import json
import os

from shell import run

BRIDGE = "wire"


class Network:
    """A switch that VMs can be plugged into."""

    def __init__(self, name):
        self.name = name
        self._taps = {}  # by machine; one that was started again has several
        self._count = 0

    def tap(self, vm_name):
        """A new port on the switch; returns the tap's interface name in the namespace."""
        tap = f"tap{self._count}"
        self._count += 1
        self._taps.setdefault(vm_name, []).append(tap)
        self._ip("tuntap", "add", tap, "mode", "tap")
        self._ip("link", "set", tap, "master", BRIDGE, "up")
        return tap

    def inside(self, *command):
        """The words of a command that runs in the namespace."""
        return ["ip", "netns", "exec", self.name, *command]

    def traffic(self, vm_name):
        """Bytes that a VM has sent and received so far, as its ports on the switch count them."""
        links = [json.loads(self._ip("-json", "-statistics", "link", "show", tap))[0] for tap in self._taps[vm_name]]
        counters = [link["stats64"] for link in links]
        return sum(each["rx"]["bytes"] for each in counters), sum(each["tx"]["bytes"] for each in counters)

    def own_address(self, address):
        """Give the switch itself an address, for a server that is no virtual machine."""
        self._ip("address", "add", address, "dev", BRIDGE)

    def _ip(self, *words):
        return run("ip", "-netns", self.name, *words)


@contextlib.contextmanager
def network():
    """A network for one run; taken down in any case."""
    name = f"ka-qemu-{os.getpid()}"
    run("ip", "netns", "add", name)
    try:
        wire = Network(name)
        # No forwarding delay: a VM's first DHCP request must not be swallowed.
        wire._ip("link", "add", BRIDGE, "type", "bridge", "forward_delay", "0", "stp_state", "0", "mcast_snooping", "0")
        wire._ip("link", "set", BRIDGE, "up")
        yield wire
    finally:
        run("ip", "netns", "delete", name)
