"""Where a run of the harness works: one scenario at a time, in target/qemu."""

import contextlib
import fcntl
import os
import re
import shutil
import sys
from pathlib import Path

from shell import ToolFailed

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent
WORK = SOURCE / "target/qemu"
LOGS, DISKS, MANIFESTS, CACHE = WORK / "logs", WORK / "disks", WORK / "manifests", WORK / "cache"

# The Debian of the golden machines. The oldest one has a kernel without mount_setattr(2), the newest one modules that
# are compressed, and a `+` in its kernel's version.
SUITES = ("bullseye", "bookworm", "trixie")
SUITE = os.environ.get("SUITE") or "trixie"



def older_than_the_host():
    """Is the golden system's C library older than the one that ka was built with?"""
    release = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    host = re.search(r"^VERSION_CODENAME=(\S+)", release, re.MULTILINE)
    return not host or host[1] not in SUITES or SUITES.index(SUITE) < SUITES.index(host[1])


TOOLS = ("mmdebstrap", "qemu-system-x86_64", "sfdisk", "sgdisk", "mkfs.ext4", "e2fsck", "losetup", "addpart", "blkid",
         "wipefs", "ip", "tar", "make", "dnsmasq", "lvm")


@contextlib.contextmanager
def working_folder(keep):
    """Folders for this run alone, without what an earlier one left."""
    WORK.mkdir(parents=True, exist_ok=True)
    with open(WORK / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"another qemu-test works in {WORK}")
        for folder in (LOGS, DISKS, MANIFESTS):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        try:
            yield
        finally:
            if not keep:
                shutil.rmtree(DISKS)


def look_for_tools(more=()):
    """What the run needs, or an error that names all that is missing."""
    if os.geteuid() != 0:
        raise ToolFailed("root is needed, for loop devices, mounts and a network namespace")
    missing = [tool for tool in (*TOOLS, *more) if not shutil.which(tool)]
    if missing:
        raise ToolFailed(f"missing: {' '.join(missing)}; `make setup` installs them")
