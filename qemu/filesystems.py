"""The tools of each kind of file system: how one is made, and how one is judged without being changed."""

import re
import tempfile

import image
from shell import ToolFailed, run

# Maker, then the words that give it an identity and a label.
MAKERS = {
    **{kind: ((f"mkfs.{kind}", "-qF"), ("-U", "{uuid}"), ("-L", "{label}")) for kind in ("ext2", "ext3", "ext4")},
    "xfs": (("mkfs.xfs", "-qf"), ("-m", "uuid={uuid}"), ("-L", "{label}")),
    "jfs": (("mkfs.jfs", "-q"), (), ("-L", "{label}")),
    "reiserfs": (("mkfs.reiserfs", "-qff"), ("-u", "{uuid}"), ("-l", "{label}")),
    "btrfs": (("mkfs.btrfs", "-qf"), ("-U", "{uuid}"), ("-L", "{label}")),
    "vfat": (("mkfs.vfat",), ("-i", "{serial}"), ("-n", "{label}")),
    "swap": (("mkswap",), ("-U", "{uuid}"), ("-L", "{label}")),
}

JUDGES = {
    **{kind: ("e2fsck", "-fn") for kind in ("ext2", "ext3", "ext4")},
    "xfs": ("xfs_repair", "-n"),
    "jfs": ("fsck.jfs", "-n", "-f"),
    "reiserfs": ("reiserfsck", "--check", "--yes", "--quiet"),
    "btrfs": ("btrfs", "check", "--readonly"),
    "vfat": ("fsck.vfat", "-n"),
}

WRITING_JUDGES = {"reiserfs"}
"""These want to note on the disk that they have looked: they are given a copy."""

TOOLS = sorted({words[0][0] for words in MAKERS.values()} | {words[0] for words in JUDGES.values()} | {"jfs_tune"})


def make(kind, device, uuid, label, features=(), journal=0):
    """Make a file system, or swap space, with this identity; an ext4 may have features, and a journal of so many MiB."""
    maker, identity, named = MAKERS[kind]
    words = [*maker, *identity, *(named if label else ()), *(("-O", ",".join(features)) if features else ()),
             *(("-J", f"size={journal}") if journal else ())]
    run(*(word.format(uuid=uuid, label=label, serial=uuid.replace("-", "")) for word in words), device)
    if kind == "jfs":
        run("jfs_tune", "-U", uuid, device)


PROJECT_IS_INHERITED = 0x2000_0000  # chattr(1): P


def add_features(device, features, project):
    """Give an ext4 features, and all that is in its root to a project; nothing is mounted for that."""
    if project:
        with image.mounted(device, image.UNTOUCHED["ext4"], "ext4") as root:
            inodes = {path.lstat().st_ino: path.is_dir() and not path.is_symlink() for path in [root, *root.rglob("*")]
                      if path.name != "lost+found"}
        for inode, is_folder in inodes.items():
            flags = int(re.search(r"Flags: (0x[0-9a-f]+)", run("debugfs", "-R", f"stat <{inode}>", device))[1], 16)
            words = [f"set_inode_field <{inode}> projid {project}"]
            if is_folder:
                words.append(f"set_inode_field <{inode}> flags {flags | PROJECT_IS_INHERITED:#x}")
            run("debugfs", "-w", "-f", "-", device, input="".join(f"{word}\n" for word in words))
    run("tune2fs", "-O", ",".join(features), device)


def faults(path, volume, sector):
    """What the file system's own tool finds wrong with a volume of an image."""
    part = next(part for part in image.partitions(path, sector) if part.number == volume.number)
    try:
        if volume.kind in WRITING_JUDGES:
            with tempfile.NamedTemporaryFile(dir=path.parent) as copy:
                run("dd", f"if={path}", f"of={copy.name}", f"skip={part.start}", f"count={part.size}", "bs=1M",
                    "iflag=skip_bytes,count_bytes", "conv=sparse", "status=none")
                run(*JUDGES[volume.kind], copy.name)
        else:
            with image.loop(path, part.start, part.size, read_only=True, sector=sector) as device:
                run(*JUDGES[volume.kind], device)
    except ToolFailed as error:
        return [str(error)]
    return []
