"""A site's own DHCP server gives the addresses, and ka only says what to boot."""

import ipaddress

import site_dhcp
from scenario import BIGGER, SMALLER, Scenario, by_turns
from scenarios.default import GOLDEN

SCENARIO = Scenario(
    name="proxy",
    about=__doc__,
    golden=GOLDEN,
    nodes=by_turns(BIGGER, SMALLER),
    pxe_options="--proxy",
    site_dhcp=True,
)


def after_run(trial):
    """The addresses are the site's."""
    first, last = map(ipaddress.ip_address, site_dhcp.RANGE.split(","))
    for node in trial.outcome.report.get("nodes", []):
        address = ipaddress.ip_address(node["address"].rsplit(":", 1)[0])
        faults = [] if first <= address <= last else [f"{address} is not the site's"]
        trial.report.found("golden", f"address of {node['mac']}", faults)
