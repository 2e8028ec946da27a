"""A plain Debian on one MBR disk with ext4 and swap, onto a larger and a smaller disk by turns."""

from image import MIB
from scenario import BIGGER, SMALLER, Golden, GoldenDisk, Scenario, Volume, by_turns

DISK = GoldenDisk(3072 * MIB, "dos", (
    Volume(1, "ext4", None, "/", "defaults,errors=remount-ro", label="golden", bootable=True),
    Volume(2, "swap", 256 * MIB),
))
GOLDEN = Golden("debian", (DISK,))

SCENARIO = Scenario(
    name="default",
    about=__doc__,
    golden=GOLDEN,
    nodes=by_turns(BIGGER, SMALLER),
    nodes_by_default=3,
)
