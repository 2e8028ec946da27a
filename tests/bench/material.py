"""What is transferred: bytes that do not compress, and the golden tree."""

import os
import shutil
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


def tree_of_usr(folder, size):
    """A tree with so many bytes of this machine's /usr, in the order of names."""
    found = 0
    for directory, names, files in os.walk("/usr"):
        names.sort()
        there = folder / os.path.relpath(directory, "/")
        there.mkdir(parents=True, exist_ok=True)
        for name in sorted(files):
            source = os.path.join(directory, name)
            shutil.copy2(source, there / name, follow_symlinks=False)
            found += os.lstat(source).st_size
            if found >= size:
                return folder
    raise Trouble(f"/usr has only {found} bytes")


def text(path, size):
    """A file of `size` bytes of source code, scripts and documents of this machine."""
    endings = (".py", ".h", ".txt", ".pl", ".pm", ".sh", ".rs", ".md", ".html", ".c")
    with open(path, "wb") as out:
        while True:
            before = out.tell()
            for directory, _, files in os.walk("/usr"):
                for name in files:
                    if name.endswith(endings) and not os.path.islink(os.path.join(directory, name)):
                        with open(os.path.join(directory, name), "rb") as source:
                            out.write(source.read())
                if out.tell() >= size:
                    out.truncate(size)
                    return path
            if out.tell() == before:
                raise Trouble("/usr has no texts")


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
