"""What a tree of files is, in every respect that a clone must keep.

Taken from a file system that nobody writes to, one JSON line per path, so that a
manifest can be kept, looked at and compared.

Directories have no size here (it depends on the file system's history), and no link
count. A file's holes are noted as its data: the runs of 4 KiB blocks that SEEK_DATA
reports. Zeros that were really written are data, so a copy that digs holes where there
were none differs, as does one that fills holes.

Room that was preallocated and never written reads as zeros, and XFS leaves such pieces
where it has reckoned with more of a file than came. SEEK_DATA calls them holes, or data
once a page of them is in the cache: it depends on who has read the file before. So they
are noted by themselves (FIEMAP knows them for sure), and are neither data nor holes.
"""

import errno
import fcntl
import hashlib
import json
import os
import stat
import struct
import sys

BLOCK = 4096
ZEROS = bytes(1 << 20)
KINDS = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket",
}


def take(root):
    """The manifest of a tree: a dictionary from path (`/` is the root) to its facts."""
    root = os.fsencode(root).rstrip(b"/")
    device = os.lstat(root).st_dev
    entries, names_of = {}, {}
    for path in walk(root, device):
        status = os.lstat(path)
        name = os.fsdecode(path[len(root):] or b"/")
        entries[name] = facts(path, status)
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            names_of.setdefault(status.st_ino, []).append(name)
    for names in names_of.values():
        for name in names:
            entries[name]["hard links"] = grouped(sorted(names))
    return entries


def grouped(names):
    """All names of a file; of many the first and the last, their number and hash: each of them has the list."""
    if len(names) <= 16:
        return names
    digest = hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()
    return [names[0], names[-1], f"{len(names)} names {digest}"]


def walk(root, device):
    """The root and everything below it on the same file system, in a fixed order."""
    yield root
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode) and status.st_dev == device:
            yield from walk(entry.path, device)
        else:
            yield entry.path


def facts(path, status):
    """Everything about one path."""
    kind = stat.S_IFMT(status.st_mode)
    found = {
        "type": KINDS[kind], "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "owner": f"{status.st_uid}:{status.st_gid}", "mtime": status.st_mtime_ns, "xattrs": xattrs(path),
    }
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        found |= traits(path)
    if kind == stat.S_IFREG:
        found |= {"size": status.st_size}
        found["sha256"], found["data"], preallocated = contents(path, status.st_size)
        if preallocated:
            found["preallocated"] = preallocated
    elif kind == stat.S_IFLNK:
        found["target"] = os.fsdecode(os.readlink(path))
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        found["device"] = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return found


GETFLAGS, FSGETXATTR = 0x80086601, 0x801C581F  # linux/fs.h
FSXATTR = struct.Struct("=IIIII8x")
SETTABLE = 0x6282_C4FF | 0x1_0000 | 0x2_0000  # chattr(1): s u c S i a d A, m, j t, D T, C, x, P F
SETTABLE_X = 0x1 | 0x100 | 0x400 | 0x800 | 0x1000 | 0x2000 | 0x4000 | 0x1_0000  # xfs_io(8): r t n e E f S C


def traits(path):
    """Flags, project and wishes for extents of a file or directory; nothing where there are none."""
    found = {}
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        word = bytearray(8)
        more = bytearray(FSXATTR.size)
        if known(file, GETFLAGS, word) and (flags := struct.unpack("=I4x", word)[0] & SETTABLE):
            found["flags"] = f"{flags:#x}"
        if known(file, FSGETXATTR, more):
            xflags, extsize, _, project, cowextsize = FSXATTR.unpack(more)
            named = (("extent flags", f"{xflags & SETTABLE_X:#x}", xflags & SETTABLE_X), ("project", project, project),
                     ("extent size", extsize, extsize), ("cow extent size", cowextsize, cowextsize))
            found |= {name: value for name, value, given in named if given}
    finally:
        os.close(file)
    return found


def known(file, request, answer):
    """Ask a file system; false if it has no such thing."""
    try:
        fcntl.ioctl(file, request, answer)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            return False
        raise
    return True


def xattrs(path):
    """Attributes by name. ACLs are asked for: ReiserFS in Linux 6.3 to 6.12 does not list them all."""
    names = {*os.listxattr(path, follow_symlinks=False), "system.posix_acl_access", "system.posix_acl_default"}
    found = {}
    for name in sorted(names):
        try:
            found[name] = shortened(os.getxattr(path, name, follow_symlinks=False))
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                raise
    return found


def shortened(value):
    """An attribute's value, or of a long one its size and hash."""
    return value.hex() if len(value) <= 1024 else f"{len(value)} bytes {hashlib.sha256(value).hexdigest()}"


def contents(path, size):
    """The SHA-256 of a file's bytes, and its runs of data and of preallocated room as [first block, end block]."""
    digest, position = hashlib.sha256(), 0
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        segments, preallocated = list(data_segments(file, size)), blocks(unwritten_extents(file, size))
        for start, end in segments:
            digest = with_zeros(digest, start - position)
            position = start
            while position < end:
                piece = os.pread(file, min(end - position, 1 << 20), position)
                if not piece:
                    raise OSError(errno.EIO, "shorter than its size", os.fsdecode(path))
                digest.update(piece)
                position += len(piece)
    finally:
        os.close(file)
    data = without(blocks(segments), preallocated)
    return with_zeros(digest, size - position).hexdigest(), data, preallocated


def blocks(segments):
    """Stretches of bytes as runs of blocks."""
    runs = []
    for start, end in segments:
        first, last = start // BLOCK, -(-end // BLOCK)
        if runs and runs[-1][1] >= first:
            runs[-1][1] = last
        else:
            runs.append([first, last])
    return runs


def without(runs, others):
    """What of these runs is in none of the others; both are in order."""
    left = []
    for first, last in runs:
        for start, end in others:
            if end <= first or start >= last:
                continue
            if start > first:
                left.append([first, start])
            first = end
        if first < last:
            left.append([first, last])
    return left


_after_zeros = {}


def with_zeros(digest, count):
    """The digest after `count` more zeros: a hole, which need not be read.

    Gigabytes of zeros take seconds, and the same hole is met in every tree, so what
    came of a long one is kept.
    """
    key = digest.digest(), count
    if key not in _after_zeros:
        digest = digest.copy()
        for _ in range(count >> 20):
            digest.update(ZEROS)
        digest.update(ZEROS[:count & 0xFFFFF])
        if count < 64 << 20:
            return digest
        _after_zeros[key] = digest
    return _after_zeros[key].copy()


def data_segments(file, size):
    end = 0
    while end < size:
        try:
            start = os.lseek(file, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = min(os.lseek(file, start, os.SEEK_HOLE), size)
        yield start, end


FIEMAP, LAST, UNWRITTEN = 0xC020660B, 0x1, 0x800  # linux/fiemap.h
HEAD, EXTENT, AT_ONCE = struct.Struct("=QQIIII"), struct.Struct("=QQQQQIIII"), 256


def unwritten_extents(file, size):
    """Where a file has room that was never written; nowhere if its file system does not tell."""
    found, start = [], 0
    while start < size:
        request = bytearray(HEAD.size + AT_ONCE * EXTENT.size)
        HEAD.pack_into(request, 0, start, size - start, 0, 0, AT_ONCE, 0)
        try:
            fcntl.ioctl(file, FIEMAP, request)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY):
                return found
            raise
        count = HEAD.unpack_from(request)[3]
        extents = [EXTENT.unpack_from(request, HEAD.size + n * EXTENT.size) for n in range(count)]
        for at, _, length, _, _, flags, *_ in extents:
            if flags & UNWRITTEN and at < size:
                found.append((at, min(at + length, size)))
            start = at + length
        if not extents or extents[-1][5] & LAST:
            break
    return found


def placed(entries, at):
    """A file system's manifest with the paths that it has where it is mounted; its own root ends in a slash."""
    return entries if at == "/" else {at + name: found for name, found in entries.items()}


def file_name(at):
    """The name of a file for what is mounted there."""
    return at.strip("/").replace("/", "-") or "root"


def data_size(entries):
    """About the size of a tar of these entries, in bytes."""
    blocks = sum(end - start for found in entries.values() for start, end in found.get("data", ()))
    return BLOCK * blocks + 1024 * len(entries)


def lines(entries):
    return (json.dumps({"path": name, **found}) + "\n" for name, found in entries.items())


def save(entries, path):
    with open(path, "w", encoding="ascii") as file:
        file.writelines(lines(entries))


def load(path):
    with open(path, encoding="ascii") as file:
        lines = [json.loads(line) for line in file]
    return {line.pop("path"): line for line in lines}


if __name__ == "__main__":  # in a workbench
    sys.stdout.writelines(lines(take(sys.argv[1])))
