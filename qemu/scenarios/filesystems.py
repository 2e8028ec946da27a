"""Every file system that can be copied, partitions that are copied as they are, an NVMe disk, a data disk with 4096-byte
sectors.

The golden node has Debian's full kernel, for JFS and ReiserFS. Which disk is which is told by their serial
numbers, for the system's disk is `vda` on one machine and `nvme0n1` on another.
"""

import hashlib

import check
import clone
import filesystems
import image
import manifest
from image import MIB
from scenario import Golden, GoldenDisk, Hardware, NodeDisk, Scenario, Selection, Subvolume, Volume

SYSTEM = GoldenDisk(3072 * MIB, "dos", (
    Volume(1, "ext2", 160 * MIB, "/boot", label="boot", bootable=True),
    Volume(2, "xfs", 960 * MIB, "/", label="golden-root"),
    Volume(3, "extended"),
    Volume(5, "swap", 96 * MIB, label="golden-swap", logical=True),
    Volume(6, "reiserfs", 192 * MIB, "/var", "defaults,user_xattr,acl,noatime", label="var", logical=True),
    Volume(7, "jfs", 64 * MIB, "/home", label="home", logical=True),
    Volume(8, "raw", 24 * MIB, logical=True),
    Volume(9, "raw", 48 * MIB, label="as-it-is", logical=True, holds="ext4"),
    Volume(10, "btrfs", None, label="srv", logical=True, subvolumes=(
        Subvolume("@srv", "/srv", "defaults,compress=zstd"), Subvolume("@data", "/srv/data", "defaults,noatime"),
    )),
), serial="system")
DATA = GoldenDisk(512 * MIB, "gpt", (
    Volume(1, "ext4", 128 * MIB, "/data/first", label="first",
           features=("quota", "project", "casefold", "ea_inode", "verity")),
    Volume(2, "ext3", None, "/data/second"),
), sector=4096, serial="data")

GOLDEN = Golden(
    "filesystems", (SYSTEM, DATA),
    kernel="linux-image-amd64",
    packages=("initramfs-tools", "grub-pc", "xfsprogs", "jfsutils", "reiserfsprogs", "btrfs-progs", "gdisk", "partclone"),
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
    run_options="-D vda8 -D vda9",
)


GUARDED = "/data/first/ext4-large"
# fs-verity's ioctl (linux/fsverity.h): version, SHA-256, blocks of 4096 bytes, no salt, no signature.
GUARD = f"""perl -e 'open(my $file, "<", $ARGV[0]) or die;
    my $wish = pack("L4 Q L2 Q Q11", 1, 1, 4096, 0, 0, 0, 0, 0, (0) x 11);
    ioctl($file, 0x40806685, $wish) or die "fs-verity: $!"' {GUARDED}"""


def before_images(trial):
    """What `kactl image` makes is more than a small /var holds twice, and no part of the golden tree."""
    trial.server.must("mount -t tmpfs -o mode=755,size=600m boot-images /var/lib/ka")


def before_run(trial):
    # The kernel takes the time at which it wrote the hashes for a change.
    trial.server.must(f"when=$(stat -c %y {GUARDED}) && {GUARD} && touch -d \"$when\" {GUARDED}")


def after_run(trial):
    """What no clone can have is known before the nodes are touched, and part of the result."""
    notes = {note["kind"]: note["count"] for note in trial.outcome.report.get("notes", ())}
    faults = [] if notes.get("protection_lost") == 1 else [f"notes are {notes}, expected one protection_lost"]
    if f"guarded by fs-verity, such as {GUARDED}" not in trial.outcome.log:
        faults.append("the plan does not tell of fs-verity")
    for node in trial.outcome.report.get("nodes", ()):
        faults += [f"{node['mac']}: {note}" for note in node["notes"] if note["kind"].endswith("_lost")]
    trial.report.found("golden", "what is not kept", faults)


def at_the_end(trial):
    """What was copied as it is: to the last byte, or in all that its file system uses. The nodes' disks were full of
    something else."""
    golden = raw_parts(trial.golden_disks[0])
    with trial.report.step("Partitions that were copied as they are"):
        for node in trial.sound_nodes():
            if node.identity:
                found = raw_parts(node.disks[0])
                faults = [fault for volume in SYSTEM.volumes if volume.kind == "raw"
                          for fault in raw_faults(volume, golden[volume.number], found[volume.number])]
                trial.report.found(node.name, "as they are", faults)


def raw_parts(disk):
    return {part.number: (disk, part) for part in image.partitions(disk.path, disk.sector)}


def raw_faults(volume, golden, found):
    if not volume.holds:
        same = digest(*golden, golden[1].size) == digest(*found, golden[1].size)
        return [] if same else [f"partition {volume.number} has other bytes"]
    faults, trees = [], []
    for disk, part in (golden, found):
        with image.loop(disk.path, part.start, part.size, read_only=True, sector=disk.sector) as device:
            faults += clone.tool_faults(*filesystems.JUDGES[volume.holds], device)
            with image.mounted(device, image.UNTOUCHED[volume.holds], volume.holds) as root:
                trees.append(manifest.take(root))
    return faults + [f"partition {volume.number}: {fault}" for fault in check.compare(*trees)]


def digest(disk, part, size):
    found = hashlib.sha256()
    with open(disk.path, "rb") as file:
        file.seek(part.start)
        found.update(file.read(size))
    return found.digest()
