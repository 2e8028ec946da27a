"""A whole room at once: 500 machines that want an address, 1,000 that load a file while others hold connections, and 200
receivers of one `kactl send`."""

from bench import MIB
from boot import RATE_MBIT, add, addresses, crowd, server, wire_seconds
from hosts import hosts

# What everybody loads, and what slow ones load: more than all the buffers between them and the server.
FILES = {"vmlinuz": 2 * MIB, "all.rdz": 24 * MIB}
MACHINES = 1000
IDLE, SLOW = 200, 50


def load(bench):
    """500 DHCP clients, 1,000 downloads among idle and slow connections, 200 receivers."""
    from cases import many
    machines = bench.options.nodes or MACHINES
    with hosts(1, RATE_MBIT) as network, server(bench, network, FILES) as pxe:
        addresses(bench, network, "load")
        bound = wire_seconds(bench, network, None)
        size = machines * FILES["vmlinuz"]
        found = crowd(bench, network, f"busy:{IDLE}:{SLOW}", machines, FILES["vmlinuz"])
        # A machine that failed is a wrong copy, and so is a slow one that was cut off.
        well = not found["failed"] and not found["cut"] and found["dropped"] == IDLE
        add(bench, "load", "http", machines, found, size, "all have their files, idle connections dropped, active ones never",
            well, f"{found['dropped']} of {IDLE} idle connections dropped, {found['cut']} of {SLOW} slow ones cut", bound(size), pxe)
    many(bench, "load")
