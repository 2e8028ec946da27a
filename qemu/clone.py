"""Is this disk a proper clone? What can be told from outside, before and after it boots."""

from dataclasses import dataclass
from pathlib import Path

import check
import golden
import image
import manifest
from image import MIB
from shell import ToolFailed, run


@dataclass(frozen=True)
class Identity:
    """What makes a clone a machine of its own."""

    root: str
    swap: str


def identify(disk):
    """The UUIDs of a disk's root and swap. Refuses a partition that looks like two things at once."""
    parts = {part.number: part for part in image.partitions(disk)}
    found = {number: image.identity(disk, parts[number]) for number in (golden.ROOT_NUMBER, golden.SWAP_NUMBER)}
    for number, kind in ((golden.ROOT_NUMBER, "ext4"), (golden.SWAP_NUMBER, "swap")):
        if found[number].get("TYPE") != kind:
            raise ToolFailed(f"{disk}: partition {number} is {found[number].get('TYPE')}, expected {kind}")
    return Identity(found[golden.ROOT_NUMBER]["UUID"], found[golden.SWAP_NUMBER]["UUID"])


def table_faults(disk, size):
    """What is wrong with a clone's partition table, given the disk's size in bytes."""
    faults = tool_faults("sfdisk", "--verify", disk)
    kinds = {word.split()[2] for word in run("wipefs", "--noheadings", disk).splitlines()}
    if kinds != {"dos"}:
        faults.append(f"the disk has tables of kind {' and '.join(sorted(kinds))}, expected dos alone")
        return faults
    parts = image.partitions(disk)
    shape = [(part.number, part.type, part.bootable) for part in parts]
    if shape != [(golden.ROOT_NUMBER, "83", True), (golden.SWAP_NUMBER, "82", False)]:
        faults.append(f"partitions are {shape}, expected an active 83 and an 82")
        return faults
    root, swap = parts
    # A desc counts in megabytes; both meanings of that word are within this.
    if not 0.9 * golden.SWAP <= swap.size <= 1.1 * golden.SWAP:
        faults.append(f"the swap has {swap.size} bytes, expected about {golden.SWAP}")
    unused = size - root.size - swap.size
    if unused > 8 * MIB:
        faults.append(f"{unused // MIB} MiB of the disk are in no partition, though the root should fill it")
    return faults


def file_system_faults(disk):
    """What e2fsck finds on the root, without changing it."""
    root = next(part for part in image.partitions(disk) if part.number == golden.ROOT_NUMBER)
    with image.loop(disk, root.start, root.size, read_only=True) as device:
        return tool_faults("e2fsck", "-fn", device)


def tree_faults(disk, expected, exemptions, keep_as):
    """How the clone's tree differs from the golden one. Also returns the exceptions that were not needed."""
    with image.mounted_partition(disk, golden.ROOT_NUMBER) as root:
        found = manifest.take(root)
    manifest.save(found, keep_as)
    return check.compare(expected, found, exemptions), check.unneeded(expected, found, exemptions)


def fstab_faults(disk, identity):
    """An fstab that names anything but the clone's own file systems."""
    with image.mounted_partition(disk, golden.ROOT_NUMBER) as root:
        return fstab_text_faults((root / "etc/fstab").read_text(), identity)


def fstab_text_faults(text, identity):
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    named = {(line[1] if line[2] != "swap" else "swap"): line[0] for line in lines}
    expected = {"/": f"UUID={identity.root}", "swap": f"UUID={identity.swap}"}
    return [] if named == expected else [f"fstab names {named}, expected {expected}"]


def machine_id(disk):
    with image.mounted_partition(disk, golden.ROOT_NUMBER) as root:
        return Path(root, "etc/machine-id").read_text().strip()


def tool_faults(*command):
    try:
        run(*command)
    except ToolFailed as error:
        return [str(error)]
    return []
