"""A golden system whose initrd is made by dracut."""

from scenario import BIGGER, SMALLER, Golden, Scenario, by_turns
from scenarios.default import DISK

# Not of the machine that it is made on, which is the build's host; and no more than such a machine needs, packed
# loosely: emulated processors have to build it.
CONF = """\
hostonly="no"
compress="zstd -3 -q"
add_drivers+=" virtio_pci virtio_blk ext4 "
omit_dracutmodules+=" network plymouth crypt dm dmraid mdraid lvm btrfs nvdimm overlay-root virtiofs lunmask "
"""

SCENARIO = Scenario(
    name="dracut",
    about=__doc__,
    golden=Golden("dracut", (DISK,), packages=("dracut", "grub-pc"),
                  files={"/etc/dracut.conf.d/golden.conf": CONF}),
    nodes=by_turns(BIGGER, SMALLER),
)
