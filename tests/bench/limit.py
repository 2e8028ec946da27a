"""The limit: one TCP stream of iperf3 from the golden node to one host, over the same links."""

import json

from process import Process
from shell import Trouble, run

PORT = 5201


def limit_seconds(hosts, size, scratch):
    """What `size` bytes take at the rate at which iperf3's receiver got as many, and that rate's share of the link's."""
    server = Process(hosts.inside(1, "iperf3", "-s", "-1", "-p", PORT), scratch / "iperf3.log")
    try:
        hosts.wait_listening(1, PORT, server)
        said = json.loads(run(*hosts.inside(0, "iperf3", "-J", "-c", hosts.address(1), "-p", PORT, "-n", size)))
    finally:
        server.stop()
    if "error" in said:
        raise Trouble(f"iperf3: {said['error']}")
    rate = said["end"]["sum_received"]["bits_per_second"]
    return size * 8 / rate, rate / (hosts.rate_mbit * 1e6)
