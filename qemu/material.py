"""Test material: files with everything that a clone must keep.

A stock Debian has hardly any holes, ACLs or odd names, so the golden tree gets a
folder that holds each kind of thing at least once. All of it is made from fixed
values, so two builds of the golden image carry the same material.

What only some file systems hold (flags, projects, large attributes) is tried on each
of them in its place, and left out where the file system knows no such thing.
"""

import errno
import fcntl
import functools
import hashlib
import os
import stat
import struct
import sys

FOLDER = "srv/material"
BLOCK = 4096
SECOND = 1_000_000_000


def plant(root):
    """Make all the material below the tree's root, but for what `plant_traits` adds in its place."""
    folder = os.path.join(root, FOLDER)
    os.makedirs(folder)
    at = functools.partial(os.path.join, folder)
    _modes(at)
    _attributes(at)
    _holes(at)
    _links(at)
    _special_files(at)
    _names(at)
    _contents(at)
    _times(at)


def plant_some(folder, kind):
    """A smaller lot for one more file system, of what its kind can hold: times of a second for ReiserFS."""
    at = functools.partial(os.path.join, folder)
    step = SECOND if kind == "reiserfs" else 1
    for name, data in (("some", b"of another file system\n"), ("large", bytes(range(256)) * 4096)):
        _write(at(f"{kind}-{name}"), data)
    _sparse(at(f"{kind}-holes"), 1 << 20, ((1 << 19), BLOCK))
    os.link(at(f"{kind}-some"), at(f"{kind}-other-name"))
    os.symlink(f"{kind}-some", at(f"{kind}-link"))
    os.setxattr(at(f"{kind}-some"), "user.comment", kind.encode())
    access = acl((USER_OBJ, 6, NO_ID), (USER, 4, 1234), (GROUP_OBJ, 4, NO_ID), (MASK, 6, NO_ID), (OTHER, 0, NO_ID))
    os.setxattr(at(f"{kind}-some"), "system.posix_acl_access", access)
    os.mkdir(at(f"{kind}-folder"), 0o2750)
    os.chown(at(f"{kind}-folder"), 1000, 1001)
    # Both ACLs, and an attribute beside them: a kernel's list of names may lack one that comes behind another.
    for name, *acls in (("acls", "access", "default"), ("access-acl", "access"), ("default-acl", "default")):
        os.mkdir(at(f"{kind}-{name}"))
        for one in acls:
            os.setxattr(at(f"{kind}-{name}"), f"system.posix_acl_{one}", access)
        os.setxattr(at(f"{kind}-{name}"), "user.comment", name.encode())
        _write(at(f"{kind}-{name}/inside"))
        os.utime(at(f"{kind}-{name}/inside"), ns=(0, 1_234_567_891 * SECOND))
        os.utime(at(f"{kind}-{name}"), ns=(0, 1_234_567_892 * SECOND))
    for name in ("some", "large", "holes", "folder"):
        os.utime(at(f"{kind}-{name}"), ns=(0, 1_234_567_890 * SECOND + 123_456_789 // step * step))


def fill_raw(path, start, size):
    """Bytes of no file system: in pieces of 64 KiB, two thirds of which are zeros, one MiB wholly."""
    piece = 1 << 16
    with open(path, "r+b") as disk:
        for number in range(size // piece):
            digest = hashlib.sha256(b"piece %d" % number).digest()
            disk.seek(start + number * piece)
            disk.write(bytes(piece) if digest[0] % 3 or number >> 4 == 5 else digest * (piece // len(digest)))


def _sparse(path, size, *islands):
    with open(path, "wb") as file:
        for start, length in islands:
            file.seek(start)
            file.write(b"\xa5" * length)
        file.truncate(size)


def _write(path, data=b"material\n"):
    with open(path, "wb") as file:
        file.write(data)


def _modes(at):
    for number, mode in enumerate((0o4755, 0o2755, 0o6711, 0o000, 0o600, 0o777)):
        path = at(f"mode-{mode:04o}")
        _write(path)
        os.chown(path, 1000 + number, 4_000_000_000 + number)
        os.chmod(path, mode)
    os.mkdir(at("sticky"))
    os.chmod(at("sticky"), 0o1777)
    os.mkdir(at("setgid"))
    os.chown(at("setgid"), 0, 50)
    os.chmod(at("setgid"), 0o2750)
    os.mkdir(at("empty"), 0o700)


def acl(*entries):
    """The kernel's form of a POSIX ACL (acl(5)): entries are (tag, permissions, id)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


USER_OBJ, USER, GROUP_OBJ, MASK, OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
NO_ID = 0xFFFFFFFF


def _attributes(at):
    _write(at("xattr"))
    os.setxattr(at("xattr"), "user.comment", "grüße".encode())
    os.setxattr(at("xattr"), "user.empty", b"")
    os.setxattr(at("xattr"), "user.binary", bytes(range(256)))
    os.setxattr(at("xattr"), "trusted.secret", b"root only")
    _write(at("capability"), b"#!/bin/true\n")
    os.chmod(at("capability"), 0o755)
    # capabilities(7), revision 2: effective flag, then permitted and inheritable low and high words.
    net_bind_and_raw = 1 << 10 | 1 << 13
    value = struct.pack("<IIIII", 0x02000000 | 1, net_bind_and_raw, 0, 0, 0)
    os.setxattr(at("capability"), "security.capability", value)

    access = acl((USER_OBJ, 6, NO_ID), (USER, 4, 1234), (GROUP_OBJ, 4, NO_ID), (MASK, 6, NO_ID), (OTHER, 0, NO_ID))
    _write(at("acl"))
    os.setxattr(at("acl"), "system.posix_acl_access", access)
    os.mkdir(at("acl-folder"))
    inherited = acl((USER_OBJ, 7, NO_ID), (USER, 7, 1234), (GROUP_OBJ, 5, NO_ID), (MASK, 7, NO_ID), (OTHER, 0, NO_ID))
    os.setxattr(at("acl-folder"), "system.posix_acl_default", inherited)
    _write(at("acl-folder/inherits"))


def _holes(at):
    def sparse(name, *shape):
        _sparse(at(name), *shape)

    sparse("hole-all", 64 << 20)
    sparse("hole-first", 1 << 20, ((1 << 20) - BLOCK, BLOCK))
    sparse("hole-last", 1 << 20, (0, 100))
    sparse("hole-odd-end", (1 << 20) + 777, (5000, 3), (400_000, 10_000))
    sparse("hole-huge", 9 << 30, (0, BLOCK), (8 << 30, BLOCK))
    sparse("hole-many", 4 << 20, *((n * 8 * BLOCK, BLOCK) for n in range(128)))
    # Zeros that are really written are data, and must not come back as a hole.
    _write(at("zeros-written"), bytes(64 * BLOCK))


def _links(at):
    os.makedirs(at("links/deep"))
    _write(at("links/first"), b"one file, many names\n")
    os.setxattr(at("links/first"), "user.shared", b"by all names")
    for name in ("links/second", "links/deep/third", "zz-fourth"):
        os.link(at("links/first"), at(name))
    os.symlink("nowhere/at/all", at("dangling"))
    os.symlink("/etc/../etc/passwd", at("absolute"))
    os.symlink("x" * 4000, at("long-target"))
    os.symlink(b"\xff not UTF-8", os.fsencode(at("odd-target")))
    os.chown(at("dangling"), 1000, 1001, follow_symlinks=False)
    os.link(at("absolute"), at("absolute-too"), follow_symlinks=False)


def _special_files(at):
    os.mknod(at("null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(at("disk"), stat.S_IFBLK | 0o660, os.makedev(259, 70_000))
    os.mkfifo(at("fifo"), 0o622)
    os.link(at("fifo"), at("fifo-too"))


def _names(at):
    folder = os.fsencode(at("names"))
    os.mkdir(folder)
    for name in (
        b"new\nline", b"tab\tand space ", b"-dash", b"back\\slash", b"'quote\"", b"*?[glob]", b"=equals",
        "ünïcödé-語".encode(), b"latin1-\xe9\xe8", b"\x01\x7f\xff", b"n" * 255,
    ):
        _write(os.path.join(folder, name))
    # Just past ustar's 100 bytes for a name, its 256 with a prefix, and far past both.
    for length in (101, 257, 900):
        deep = folder
        while len(deep) - len(folder) < length - 60:
            deep = os.path.join(deep, b"d" * 50)
        os.makedirs(deep, exist_ok=True)
        _write(os.path.join(deep, b"leaf-%d" % length))


def _contents(at):
    _write(at("empty-file"), b"")
    seed = hashlib.sha512(b"incompressible")
    blocks = []
    for number in range(8 << 20 >> 6):
        seed.update(number.to_bytes(4, "little"))
        blocks.append(seed.digest())
    _write(at("incompressible"), b"".join(blocks))
    text = b"".join(b"line %d of a long and dull log, as servers have them\n" % n for n in range(1_200_000))
    _write(at("compressible"), text)
    # Sizes around a tar block's end.
    for size in (1, 511, 512, 513, 10_239, 10_240, 65_536, 65_537):
        _write(at(f"size-{size}"), bytes(n % 251 for n in range(size)))
    os.mkdir(at("many"))
    for number in range(1000):
        _write(at(f"many/file-{number:04}"), b"%d\n" % number)


GETFLAGS, SETFLAGS = 0x80086601, 0x40086602  # linux/fs.h
FLAGS = {"s": 0x1, "u": 0x2, "c": 0x4, "S": 0x8, "i": 0x10, "a": 0x20, "d": 0x40, "A": 0x80, "m": 0x400, "j": 0x4000,
         "t": 0x8000, "D": 0x1_0000, "T": 0x2_0000, "C": 0x80_0000, "x": 0x200_0000, "F": 0x4000_0000}


def _flags(at):
    """What chattr(1) sets, as far as the file system knows it: `+i` and `+a` forbid everything else, so last."""
    folder = at("flags")
    os.mkdir(folder)
    inside = functools.partial(os.path.join, folder)
    for letters in ("S", "d", "A", "SdA", "i", "a", "ia"):
        _write(inside(f"file-{letters}"))
        os.link(inside(f"file-{letters}"), inside(f"too-{letters}"))
    for letters in ("D", "d", "i", "Sd"):
        os.mkdir(inside(f"folder-{letters}"))
        _write(inside(f"folder-{letters}/plain"))
    for name in sorted(os.listdir(folder)):
        for path in ([inside(name, "plain")] if name.startswith("folder") else []) + [inside(name)]:
            os.utime(path, ns=(0, 1_345_678_901 * SECOND + 5))
    os.utime(folder, ns=(0, 1_345_678_902 * SECOND + 7))
    os.utime(at(""), ns=(0, 1_345_678_903 * SECOND + 9))
    for name in sorted(os.listdir(folder)):
        if not name.startswith("too-"):
            set_flags(inside(name), name.partition("-")[2])


def plant_traits(root, places):
    """What the file systems mounted at these places of a tree can hold: to be made there, and when all else is there."""
    _flags(functools.partial(os.path.join, root, FOLDER))
    for place in places:
        above = os.path.join(root, place.strip("/")) if place != "/" else os.path.join(root, "opt")
        kept = os.stat(above).st_mtime_ns
        _traits(os.path.join(above, TRAITS))
        os.utime(above, ns=(0, kept))


TRAITS = "traits"
PROJECT = 4242


def _traits(folder):
    """What chattr(1) and xfs_io(8) set, projects, attributes of more than a MiB, many names of one file."""
    os.mkdir(folder)
    at = functools.partial(os.path.join, folder)
    for letters in ("C", "c", "m", "cd", "s", "u", "S", "d", "A", "j", "t", "x"):
        _write(at(f"file-{letters}"), b"")
        set_flags(at(f"file-{letters}"), letters)
        _write(at(f"file-{letters}"), b"compressible " * 10_000)
    for letters in ("C", "c", "F", "S", "d", "A", "D", "T", "t", "x"):
        os.mkdir(at(f"folder-{letters}"))
        set_flags(at(f"folder-{letters}"), letters)
        _write(at(f"folder-{letters}/Inside"), b"compressible " * 10_000)
    _write(at("property"), b"")
    _try(os.setxattr, at("property"), "btrfs.compression", b"lzo")
    _write(at("property"), b"compressible " * 10_000)
    _projects(at)
    _wishes(at)
    _many_attributes(at("attributes"))
    _many_names(at)
    _write(at("measured"))
    # What IMA's policies for files' hashes leave: a kind, and a SHA-1. For EVM, the head of a signature.
    _try(os.setxattr, at("measured"), "security.ima", b"\x01" + bytes(range(20)))
    _try(os.setxattr, at("measured"), "security.evm", b"\x03\x02\x04" + bytes(range(64)))
    for letters in ("i", "a"):
        _write(at(f"file-{letters}"))
        os.mkdir(at(f"folder-{letters}"))
        _write(at(f"folder-{letters}/inside"))
    for below, folders, files in os.walk(folder, topdown=False):
        for path in [os.path.join(below, name) for name in files] + [below]:
            os.utime(path, ns=(0, 1_345_678_904 * SECOND + 11))
    for letters in ("i", "a"):
        set_flags(at(f"file-{letters}"), letters)
        set_flags(at(f"folder-{letters}"), letters)


def _wishes(at):
    """Sizes of extents, and the flags that only XFS knows."""
    block = 16 * BLOCK
    for name, is_folder, xflags, sizes in (
        ("wishes", False, XFLAG_EXTSIZE, {"extsize": block}), ("wishes-cow", False, XFLAG_COWEXTSIZE, {"cowextsize": block}),
        ("wishes-whole", False, XFLAG_NODEFRAG, {}), ("wishes-folder", True, XFLAG_EXTSZINHERIT, {"extsize": block}),
        ("wishes-links", True, XFLAG_NOSYMLINKS, {}), ("wishes-stream", True, XFLAG_FILESTREAM, {}),
    ):
        if is_folder:
            os.mkdir(at(name))
            set_more(at(name), xflags=xflags, **sizes)
            _write(at(f"{name}/inside"), b"large extents\n" * 1000)
        else:
            _write(at(name), b"")
            set_more(at(name), xflags=xflags, **sizes)
            _write(at(name), b"large extents\n" * 1000)


def _many_names(at):
    """More names than a kilobyte of a pax record holds; XFS and ext4 have room for tens of thousands."""
    os.mkdir(at("names"))
    _write(at("names/0000"))
    for number in range(1, 1000):
        if not _try(os.link, at("names/0000"), at(f"names/{number:04}")):
            break


def _projects(at):
    """A folder that gives its project to what is made in it, and files of other projects."""
    os.mkdir(at("project"))
    set_more(at("project"), xflags=XFLAG_PROJECT_INHERIT, project=PROJECT)
    _write(at("project/inherits"))
    os.mkdir(at("project-none"))
    set_more(at("project-none"), xflags=XFLAG_PROJECT_INHERIT)
    os.mkdir(at("project/folder"))
    _write(at("project/folder/inherits"))
    _write(at("project/other"))
    set_more(at("project/other"), project=77)
    _write(at("project-alone"))
    set_more(at("project-alone"), project=4_000_000_000)


def _many_attributes(path):
    """Twenty of 65,000 bytes, or a hundred of 14,000: which of them a file system holds differs; some hold neither."""
    for count, size in ((20, 65_000), (100, 14_000)):
        _write(path)
        if all(_try(os.setxattr, path, f"user.{number}", bytes([number]) * size) for number in range(count)):
            return
        os.unlink(path)
    _write(path)


XFLAG_PROJECT_INHERIT, XFLAG_NOSYMLINKS, XFLAG_EXTSIZE, XFLAG_EXTSZINHERIT = 0x200, 0x400, 0x800, 0x1000  # linux/fs.h
XFLAG_NODEFRAG, XFLAG_FILESTREAM, XFLAG_COWEXTSIZE = 0x2000, 0x4000, 0x1_0000
FSGETXATTR, FSSETXATTR = 0x801C581F, 0x401C5820
FSXATTR = struct.Struct("=IIIII8x")
UNKNOWN = (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSPC, errno.E2BIG, errno.ENOSYS, errno.EMLINK, errno.EPERM)


def _try(function, *arguments):
    """Is it done? False where the file system knows no such thing, or has no room for it."""
    try:
        function(*arguments)
    except OSError as error:
        if error.errno in UNKNOWN:
            return False
        raise
    return True


def set_flags(path, letters, without=""):
    """Add and remove flags of a file or directory; false where the file system knows no such thing."""
    def change(file):
        word = bytearray(8)
        fcntl.ioctl(file, GETFLAGS, word)
        flags = struct.unpack("=I4x", word)[0] | sum(FLAGS[letter] for letter in letters)
        flags &= ~sum(FLAGS[letter] for letter in without)
        fcntl.ioctl(file, SETFLAGS, struct.pack("=I4x", flags))
    return _on_open(path, change)


def set_more(path, xflags=0, extsize=0, project=0, cowextsize=0):
    """Set a project and wishes for extents; false where the file system knows no such thing."""
    def change(file):
        word = bytearray(FSXATTR.size)
        fcntl.ioctl(file, FSGETXATTR, word)
        now, _, count, _, _ = FSXATTR.unpack(word)
        fcntl.ioctl(file, FSSETXATTR, FSXATTR.pack(now | xflags, extsize, count, project, cowextsize))
    return _on_open(path, change)


def _on_open(path, change):
    file = os.open(path, os.O_RDONLY)
    try:
        return _try(change, file)
    finally:
        os.close(file)


def unseal(root):
    """Take `+i` and `+a` off the material again, so that it can be changed or removed."""
    sealed = [os.path.join(root, FOLDER, "flags"), os.path.join(root, "opt", TRAITS)]
    for folder, folders, files in (found for top in sealed for found in os.walk(top)):
        for path in [folder] + [os.path.join(folder, name) for name in files]:
            set_flags(path, "", without="ia")


def _times(at):
    """Every path gets a time of its own, down to the nanosecond; last, as making a file changes its folder's."""
    moments = {
        "1901": -2_147_483_648 * SECOND, "1969": -1, "epoch": 0, "ns": 1_234_567_890 * SECOND + 123_456_789,
        "2038": 2_147_483_648 * SECOND + 1, "2100": 4_102_444_800 * SECOND + 999_999_999, "2400": 13_569_465_600 * SECOND + 7,
    }
    for name, moment in moments.items():
        _write(at(f"time-{name}"))
    top = os.fsencode(at(""))
    for folder, folders, files in os.walk(top, topdown=False):
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            digest = hashlib.sha256(path[len(top):]).digest()
            moment = int.from_bytes(digest[:7], "little") % (1_700_000_000 * SECOND)
            os.utime(path, ns=(moment, moment), follow_symlinks=False)
    for name, moment in moments.items():
        os.utime(at(f"time-{name}"), ns=(moment, moment))
    for path, moment in (
        (at("empty"), moments["1969"]), (at("sticky"), moments["ns"]), (at("null"), moments["1901"]),
        (at("fifo"), moments["2100"]), (at("dangling"), moments["ns"]), (at("links/first"), moments["2038"]),
        (at("names"), moments["epoch"]), (at(""), moments["ns"] + 1),
    ):
        os.utime(path, ns=(moment, moment), follow_symlinks=False)


if __name__ == "__main__":  # in a workbench
    plant_traits(sys.argv[1], sys.argv[2:])
