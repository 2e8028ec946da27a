"""A golden node with virtio, cloned onto AHCI with e1000, NVMe with e1000e, and virtio-scsi with rtl8139.

The golden node's initrd has none of the drivers that the clones need.
"""

from image import MIB
from scenario import Golden, Hardware, NodeDisk, Scenario, Selection
from scenarios.default import DISK
from scenarios.filesystems import GOLDEN as FULL

DRIVERS = ("ahci", "nvme", "virtio_scsi", "e1000", "e1000e", "8139cp", "8139too")
NODES = (
    Hardware((NodeDisk(4096 * MIB, "ahci"),), card="e1000"),
    Hardware((NodeDisk(2048 * MIB, "nvme", used_as="smaller"),), card="e1000e"),
    Hardware((NodeDisk(4096 * MIB, "scsi"),), card="rtl8139"),
)
SCENARIO = Scenario(
    name="mixed",
    about=__doc__,
    golden=Golden("mixed", (DISK,), kernel="linux-image-amd64", left_out=FULL.left_out),
    nodes=lambda count: [NODES[number % 3] for number in range(count)],
    nodes_by_default=3,
    selections=(Selection("auto", "vda"),),
)


def before_run(trial):
    """The golden initrd cannot start the clones as it is."""
    files = trial.server.must("lsinitramfs /boot/initrd.img-*").splitlines()
    there = [driver for driver in DRIVERS if any(file.rsplit("/", 1)[-1].startswith(f"{driver}.ko") for file in files)]
    trial.report.found("golden", "initrd", [f"it has {driver}" for driver in there])
