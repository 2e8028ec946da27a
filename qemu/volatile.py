"""A disk with a cache that a power cut empties: what the guest has not flushed may be lost, in any order.

Killing QEMU is no power cut: what the guest has written is in the host's page cache by then, flushed or not. So the
disk is a server of the NBD protocol (https://github.com/NetworkBlockDevice/nbd, doc/proto.md) which remembers, since the
guest's last flush, what was written over what. A cut takes all of it back and then does some of it again.
"""

import contextlib
import os
import socket
import struct
import tempfile
import threading
from pathlib import Path

SECTOR = 512  # what a disk writes whole or not at all

REQUEST, REPLY, OPTION = struct.Struct(">IHHQQI"), struct.Struct(">IIQ"), struct.Struct(">QII")
GREETING = struct.pack(">8s8sH", b"NBDMAGIC", b"IHAVEOPT", 1)  # fixed newstyle
OPTION_MAGIC, OPTION_REPLY, REPLY_MAGIC, REQUEST_MAGIC = 0x49484156454F5054, 0x3E889045565A9, 0x67446698, 0x25609513
GO, ABORT = 7, 2
ACK, INFO, UNSUPPORTED = 1, 3, 0x80000001
HAS_FLAGS, SENDS_FLUSH = 1 << 0, 1 << 2
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
EINVAL = 22


class Disk:
    """An image behind such a cache. `address` is what QEMU opens."""

    def __init__(self, path, folder):
        self.address = f"nbd:unix:{folder}/socket"
        self._file = os.open(path, os.O_RDWR)
        self._size = os.path.getsize(path)
        self._unflushed = []  # (offset, the bytes before, the bytes now)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{folder}/socket")
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def cut(self, random):
        """The power is gone, after the machine is: returns how many writes were unflushed, and how many of them are lost."""
        self._end()
        for offset, before, _ in reversed(self._unflushed):
            os.pwrite(self._file, before, offset)
        share, lost = random.random(), 0
        for offset, _, now in self._unflushed:
            whole = random.random() >= share
            # One that the cut has met in the middle ends with a whole sector.
            kept = len(now) if whole else random.randrange(len(now) // SECTOR) * SECTOR if random.random() < 0.2 else 0
            lost += not whole
            os.pwrite(self._file, now[:kept], offset)
        return len(self._unflushed), lost

    def close(self):
        self._end()
        os.close(self._file)

    def _end(self):
        """Waits until what the machine had sent is dealt with."""
        # It wakes an accept that nobody has answered.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self):
        with contextlib.suppress(OSError, EOFError):
            connection, _ = self._listener.accept()
            with connection:
                if self._negotiate(connection):
                    while self._answer(connection):
                        pass

    def _negotiate(self, connection):
        """True when the client wants the disk."""
        connection.sendall(GREETING)
        exactly(connection, 4)
        while True:
            _, option, length = OPTION.unpack(exactly(connection, OPTION.size))
            exactly(connection, length)
            if option == GO:
                export = struct.pack(">HQH", 0, self._size, HAS_FLAGS | SENDS_FLUSH)
                connection.sendall(option_reply(option, INFO, export) + option_reply(option, ACK))
                return True
            connection.sendall(option_reply(option, ACK if option == ABORT else UNSUPPORTED))
            if option == ABORT:
                return False

    def _answer(self, connection):
        """One request; false when it was the last."""
        magic, _, kind, handle, offset, length = REQUEST.unpack(exactly(connection, REQUEST.size))
        if magic != REQUEST_MAGIC:
            raise EOFError("the client is out of step")
        error, data = 0, b""
        if kind == READ:
            data = os.pread(self._file, length, offset)
        elif kind == WRITE:
            now = exactly(connection, length)
            self._unflushed.append((offset, os.pread(self._file, length, offset), now))
            os.pwrite(self._file, now, offset)
        elif kind == FLUSH:
            self._unflushed.clear()
        elif kind == DISCONNECT:
            return False
        else:
            error = EINVAL
        connection.sendall(REPLY.pack(REPLY_MAGIC, error, handle) + data)
        return True


def option_reply(option, kind, data=b""):
    return struct.pack(">QIII", OPTION_REPLY, option, kind, len(data)) + data


def exactly(connection, length):
    """So many bytes; a machine that is killed ends in the middle."""
    data = bytearray(length)
    view = memoryview(data)
    while view:
        got = connection.recv_into(view)
        if not got:
            raise EOFError("the connection has ended")
        view = view[got:]
    return bytes(data)


@contextlib.contextmanager
def disk(path):
    with tempfile.TemporaryDirectory(prefix="ka-disk-") as folder:
        served = Disk(path, Path(folder))
        try:
            yield served
        finally:
            served.close()
