"""A site's own DHCP server on the wire, which knows nothing of network boots."""

import contextlib
import subprocess

from network import BRIDGE
from shell import ToolFailed

ADDRESS = "10.77.0.2"
RANGE = "10.77.0.100,10.77.0.149"


@contextlib.contextmanager
def server(wire, logs):
    """dnsmasq on the switch itself, giving addresses from a range of its own and nothing else."""
    wire.own_address(f"{ADDRESS}/24")
    log = open(logs / "site-dhcp.log", "wb")
    process = subprocess.Popen(
        wire.inside("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=root", "--port=0",
                    f"--interface={BRIDGE}", "--bind-interfaces", "--log-facility=-", "--log-dhcp", "--no-ping",
                    "--pid-file=", f"--dhcp-leasefile={logs / 'site-dhcp.leases'}", f"--dhcp-range={RANGE},1h"),
        stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield
        if process.poll() is not None:
            raise ToolFailed(f"the site's DHCP server ended by itself; see {log.name}")
    finally:
        process.terminate()
        process.wait()
        log.close()
