"""Is this a proper clone? What can be told of a machine's disks from outside, before and after it boots.

A clone is a list of disks (image.Disk) in the order of the golden node's.
"""

from dataclasses import dataclass

import check
import filesystems
import golden as golden_disks
import image
import lvm
import manifest
import workbench
from image import MIB
from shell import ToolFailed, run


@dataclass(frozen=True)
class Identity:
    """What makes a clone a machine of its own: the UUIDs of its file systems, by disk and partition."""

    uuids: dict[tuple[int, int], str]

    def __iter__(self):
        return iter(self.uuids.items())


def identify(disks, golden):
    """The UUIDs of a machine's volumes. Refuses a partition that looks like two things at once."""
    found = {}
    for index, (own, disk) in enumerate(zip(disks, golden.disks)):
        parts = {part.number: part for part in image.partitions(own.path, own.sector)}
        for volume in disk.volumes:
            if volume.kind not in filesystems.MAKERS:
                continue
            if volume.number not in parts:
                raise ToolFailed(f"{own.path}: expected a volume {volume.number} {volume.lv}, found {list(parts)}")
            told = image.identity(own.path, parts[volume.number], own.sector)
            if told.get("TYPE") != volume.kind:
                raise ToolFailed(f"{own.path}: partition {volume.number} is {told.get('TYPE')}, expected {volume.kind}")
            if told.get("LABEL") != volume.label:
                raise ToolFailed(f"{own.path}: partition {volume.number} has the label {told.get('LABEL')},"
                                 f" expected {volume.label}")
            found[index, volume.number] = told["UUID"]
    return Identity(found)


def table_faults(disks, golden):
    """What is wrong with a clone's partition tables."""
    faults = []
    for index, (own, disk) in enumerate(zip(disks, golden.disks)):
        faults += [f"disk {index}: {fault}" for fault in _table_faults(own, disk)]
    return faults


def _table_faults(own, disk):
    faults = verify_faults(own, disk)
    with image.seen(own.path, own.sector) as seen:
        kinds = {word.split()[2] for word in run("wipefs", "--noheadings", seen).splitlines()}
    expected = {"dos": {"dos"}, "gpt": {"gpt", "PMBR"}}[disk.label]
    if kinds != expected:
        return [*faults, f"the disk has tables of kind {' and '.join(sorted(kinds))},"
                         f" expected {' and '.join(sorted(expected))}"]
    parts = [part for part in image.partitions(own.path, own.sector) if part.number < lvm.FIRST]
    shape = [(part.number, part.type.upper(), part.bootable) for part in parts]
    wanted = [(volume.number, golden_disks.table_type(disk, volume), volume.bootable) for volume in disk.partitions]
    if [(number, "5" if kind == "F" else kind, flag) for number, kind, flag in shape] != wanted:
        return [*faults, f"partitions are {shape}, expected {wanted}"]
    for part in parts:
        volume = disk.volume(part.number)
        # A desc counts in megabytes; both meanings of that word are within this.
        if volume.size and not 0.9 * volume.size <= part.size <= 1.1 * volume.size:
            faults.append(f"partition {part.number} has {part.size} bytes, expected about {volume.size}")
    taken = sum(part.size for part in parts if disk.volume(part.number).kind != "extended")
    unused = own.path.stat().st_size - taken
    if unused > 8 * MIB:
        faults.append(f"{unused // MIB} MiB are in no partition, though partition {disk.filler} should fill the disk")
    return faults


def verify_faults(own, disk):
    """What sfdisk, and for a GPT sgdisk, say of a table."""
    with image.seen(own.path, own.sector) as seen:
        faults = tool_faults("sfdisk", "--verify", seen)
        if disk.label == "gpt":
            said = run("sgdisk", "--verify", seen)
            faults += [] if "No problems found" in said else [f"sgdisk --verify: {said.strip()}"]
    return faults


def sound(disks, golden):
    """What the tools find wrong with tables and file systems."""
    return [fault for own, disk in zip(disks, golden.disks) for fault in verify_faults(own, disk)] \
        + file_system_faults(disks, golden)


def file_system_faults(disks, golden):
    """What each file system's own tool finds, without changing it."""
    return [
        f"{volume.kind} of partition {volume.number}: {fault}"
        for own, disk in zip(disks, golden.disks) for volume in disk.volumes if volume.has_files
        for fault in filesystems.faults(own.path, volume, own.sector)
    ]


def tree(disks, golden, foreign):
    """The manifest of a machine's whole tree; `foreign` has what only a workbench reads, by place."""
    whole = {}
    for index, mount in golden.mounts():
        if mount.volume.on_the_host:
            with mounted(disks, index, mount) as root:
                entries = manifest.take(root)
        else:
            entries = foreign[mount.at]
        whole |= manifest.placed(entries, mount.at)
    return whole


def mounted(disks, index, mount, write=False):
    """One file system of a machine, mounted here."""
    return image.mounted_partition(disks[index].path, mount.volume.number, write=write, kind=mount.volume.kind,
                                   subvolume=mount.subvolume, sector=disks[index].sector)


def root(disks, golden, write=False):
    """The root file system of a machine, mounted here."""
    index, mount = golden.mounts()[0]
    return mounted(disks, index, mount, write)


def foreign_trees(cache, machines, golden, logs):
    """For each machine what only a workbench reads."""
    if not workbench.foreign_mounts(golden):
        return [{} for _ in machines]
    return workbench.manifests(cache, machines, golden, logs)


def tree_faults(found, expected, exemptions):
    """How the clone's tree differs from the golden one. Also returns the exceptions that were not needed."""
    return check.compare(expected, found, exemptions), check.unneeded(expected, found, exemptions)


def fstab_faults(disks, golden, identity):
    """An fstab that names anything but the clone's own file systems."""
    with root(disks, golden) as folder:
        return fstab_text_faults((folder / "etc/fstab").read_text(), golden, identity)


def fstab_text_faults(text, golden, identity):
    found = fields(text)
    expected = fields(golden_disks.fstab(golden, identity.uuids))
    return [f"fstab has {line}, which is not expected" for line in found if line not in expected] \
        + [f"fstab lacks {line}" for line in expected if line not in found]


def fields(text):
    return [" ".join(line.split()) for line in text.splitlines() if line.strip() and not line.startswith("#")]


@dataclass(frozen=True)
class Marks:
    """What makes a system this one and no other, beside its file systems."""

    machine_id: str
    hostname: str
    host_keys: dict[str, str]  # by kind


def keys_of(text):
    """Public keys of SSH, by kind."""
    return dict(line.split()[:2] for line in text.splitlines() if line.startswith(("ssh-", "ecdsa-")))


def marks(disks, golden):
    """The identity of the system on a machine's disks."""
    with root(disks, golden) as folder:
        keys = "".join(path.read_text() for path in folder.glob("etc/ssh/ssh_host_*_key.pub"))
        return Marks((folder / "etc/machine-id").read_text().strip(), (folder / "etc/hostname").read_text().strip(),
                     keys_of(keys))


def tool_faults(*command):
    try:
        run(*command)
    except ToolFailed as error:
        return [str(error)]
    return []
