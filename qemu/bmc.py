"""A BMC on the wire: ipmi_sim, whose machine is two files. `power` is 1 while the machine is to be on, `boot` is the
boot override."""

import contextlib
import subprocess

from network import BRIDGE
from shell import ToolFailed

ADDRESS, USER, PASSWORD = "10.77.0.3", "admin", "s3cret"
LEVELS = ("callback", "user", "operator", "admin")

CHASSIS = """\
#!/bin/sh
cd '{folder}'
echo "$@" >> calls
verb=$1; shift
while [ $# -gt 0 ]; do
    case $verb$1 in
        getpower) echo power:$(cat power);;
        getboot) echo boot:$(cat boot);;
        setpower) shift; echo $1 > power;;
        setboot) shift; echo $1 > boot;;
        setreset) shift;;
    esac
    shift
done
"""


@contextlib.contextmanager
def simulator(wire, folder):
    """ipmi_sim on the switch itself; its files are in `folder`."""
    folder.mkdir()
    (folder / "state").mkdir()
    (folder / "power").write_text("0\n")
    (folder / "boot").write_text("default\n")
    (folder / "chassis").write_text(CHASSIS.format(folder=folder))
    (folder / "chassis").chmod(0o755)
    allowed = "".join(f"allowed_auths_{level} none md2 md5 straight\n" for level in LEVELS)
    (folder / "lan.conf").write_text(
        f'name "bmc"\nset_working_mc 0x20\nstartlan 1\naddr {ADDRESS} 623\npriv_limit admin\n{allowed}'
        f'guid a123456789abcdefa123456789abcdef\nendlan\nchassis_control "{folder / "chassis"}"\n'
        f'user 2 true "{USER}" "{PASSWORD}" admin 10 none md2 md5 straight\n')
    (folder / "emu").write_text(
        "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nmc_enable 0x20\n")
    wire.own_address(f"{ADDRESS}/24")
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            wire.inside("ipmi_sim", "-c", folder / "lan.conf", "-f", folder / "emu", "-n", "-s", folder / "state"),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield
            if process.poll() is not None:
                raise ToolFailed(f"ipmi_sim on {BRIDGE} ended by itself; see {log.name}")
        finally:
            process.terminate()
            process.wait()


def is_on(folder):
    return (folder / "power").read_text().strip() == "1"


def boot_override(folder):
    return (folder / "boot").read_text().strip()


def calls(folder):
    return (folder / "calls").read_text().splitlines()
