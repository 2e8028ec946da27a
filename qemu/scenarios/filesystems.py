"""Every file system that can be copied, logical partitions, an NVMe disk, and a data disk with sectors of 4096 bytes.

The golden node has Debian's full kernel, for JFS and ReiserFS. Which disk is which is told by their serial
numbers, for the system's disk is `vda` on one machine and `nvme0n1` on another.
"""

from image import MIB
from scenario import Golden, GoldenDisk, Hardware, NodeDisk, Scenario, Selection, Subvolume, Volume

SYSTEM = GoldenDisk(3072 * MIB, "dos", (
    Volume(1, "ext2", 160 * MIB, "/boot", label="boot", bootable=True),
    Volume(2, "xfs", 960 * MIB, "/", label="golden-root"),
    Volume(3, "extended"),
    Volume(5, "swap", 96 * MIB, label="golden-swap", logical=True),
    Volume(6, "reiserfs", 192 * MIB, "/var", "defaults,user_xattr,acl,noatime", label="var", logical=True),
    Volume(7, "jfs", 64 * MIB, "/home", label="home", logical=True),
    Volume(8, "btrfs", None, label="srv", logical=True, subvolumes=(
        Subvolume("@srv", "/srv", "defaults,compress=zstd"), Subvolume("@data", "/srv/data", "defaults,noatime"),
    )),
), serial="system")
DATA = GoldenDisk(512 * MIB, "gpt", (
    Volume(1, "ext4", 128 * MIB, "/data/first", label="first"),
    Volume(2, "ext3", None, "/data/second"),
), sector=4096, serial="data")

GOLDEN = Golden(
    "filesystems", (SYSTEM, DATA),
    kernel="linux-image-amd64",
    packages=("initramfs-tools", "grub-pc", "xfsprogs", "jfsutils", "reiserfsprogs", "btrfs-progs", "gdisk"),
    initrd_modules=("virtio_pci", "virtio_blk", "ext4", "xfs", "jfs", "reiserfs", "btrfs"),
    left_out=tuple(f"/lib/modules/*/kernel/{part}/*" for part in (
        "drivers/gpu", "drivers/media", "drivers/net/wireless", "drivers/infiniband", "drivers/staging", "drivers/iio",
        "drivers/net/ethernet/mellanox", "drivers/isdn", "sound")),
)


def _machine(size, bus, data_size):
    return Hardware((
        NodeDisk(size, bus, used_as="bigger" if size > SYSTEM.size else "smaller", serial="system"),
        NodeDisk(data_size, used_as="data", sector=4096, serial="data"),
    ))


def nodes(count):
    """A larger and a smaller machine by turns; every other one has its system on NVMe."""
    kinds = (_machine(4096 * MIB, "nvme", 768 * MIB), _machine(2048 * MIB, "virtio", 400 * MIB))
    return [kinds[number % 2] for number in range(count)]


SCENARIO = Scenario(
    name="filesystems",
    about=__doc__,
    golden=GOLDEN,
    nodes=nodes,
    selections=(Selection("by-id:*system*", "vda"), Selection("by-id:*data*", "vdb")),
)
