"""The disk whose cache a power cut empties: what was flushed stays, the rest is lost in part, by whole sectors."""

import random
import socket
import struct
import tempfile
import unittest
from pathlib import Path

import image
import volatile

SIZE = 1 << 20


class Client:
    """As much of an NBD client as it takes."""

    def __init__(self, address):
        self.link = socket.socket(socket.AF_UNIX)
        self.link.connect(address.removeprefix("nbd:unix:"))
        volatile.exactly(self.link, 18)
        self.link.sendall(struct.pack(">I", 1))
        self.option(volatile.GO, struct.pack(">IH", 0, 0))
        self.size = struct.unpack(">HQH", volatile.exactly(self.link, struct.unpack(">QIII", volatile.exactly(
            self.link, 20))[3]))[1]
        volatile.exactly(self.link, 20)

    def option(self, option, data):
        self.link.sendall(volatile.OPTION.pack(volatile.OPTION_MAGIC, option, len(data)) + data)

    def ask(self, kind, offset=0, length=0, data=b""):
        self.link.sendall(volatile.REQUEST.pack(volatile.REQUEST_MAGIC, 0, kind, 7, offset, length or len(data)) + data)
        magic, error, handle = volatile.REPLY.unpack(volatile.exactly(self.link, volatile.REPLY.size))
        assert (magic, error, handle) == (volatile.REPLY_MAGIC, 0, 7)
        return volatile.exactly(self.link, length)


class Volatile(unittest.TestCase):
    def test_only_what_was_flushed_is_sure_to_stay(self):
        lost_of_all = set()
        for seed in range(20):
            with tempfile.TemporaryDirectory(prefix="ka-volatile-") as folder:
                path = Path(folder) / "disk.img"
                image.blank(path, SIZE)
                with volatile.disk(path) as disk:
                    client = Client(disk.address)
                    self.assertEqual(client.size, SIZE)
                    client.ask(volatile.WRITE, 4096, data=b"a" * 8192)
                    client.ask(volatile.FLUSH)
                    for number in range(16):
                        client.ask(volatile.WRITE, 8192 * (number + 1), data=b"b" * 4096)
                    self.assertEqual(client.ask(volatile.READ, 4096, 8192), b"a" * 4096 + b"b" * 4096)
                    client.link.close()
                    unflushed, lost = disk.cut(random.Random(seed))
                found = path.read_bytes()
                self.assertEqual(unflushed, 16)
                self.assertEqual(found[4096:8192], b"a" * 4096)
                whole = 0
                for number in range(16):
                    piece = found[8192 * (number + 1):8192 * (number + 1) + 4096]
                    sectors = {piece[at:at + 512] for at in range(0, 4096, 512)}
                    self.assertTrue(all(len(set(sector)) == 1 for sector in sectors))
                    whole += piece == b"b" * 4096
                self.assertEqual(whole, 16 - lost)
                lost_of_all.add(lost)
        self.assertGreater(len(lost_of_all), 5)


if __name__ == "__main__":
    unittest.main()
