"""What is transferred: bytes that do not compress, and the golden tree."""

import os
import subprocess

from shell import Trouble, run

MIB = 1 << 20
# The same golden tree as in the virtual cluster: a bootable Debian.
PACKAGES = ("linux-image-cloud-amd64,initramfs-tools,grub-pc,systemd-sysv,openssh-server,udev,kmod,iproute2,zstd")


def noise(path, size):
    """A file of `size` random bytes."""
    with open(path, "wb") as out:
        for start in range(0, size, MIB):
            out.write(os.urandom(min(MIB, size - start)))
    return path


def golden_tree(folder, store):
    """Unpacks the golden tree, which mmdebstrap makes the first time and `store` keeps as a tar."""
    if not store.exists():
        store.parent.mkdir(parents=True, exist_ok=True)
        made = store.with_suffix(".part")
        run("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={PACKAGES}", "--format=tar",
            "bookworm", made)
        made.rename(store)
    folder.mkdir()
    run("tar", "-C", folder, "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls", "-xpf", store)
    return folder


def tar_bytes(tree):
    """How many bytes GNU tar makes of a tree."""
    tar = subprocess.Popen(["tar", "-C", tree, "--xattrs", "--acls", "-cf", "-", "."], stdout=subprocess.PIPE)
    count = 0
    while piece := tar.stdout.read(MIB):
        count += len(piece)
    if tar.wait() != 0:
        raise Trouble(f"tar cannot read {tree}")
    return count
