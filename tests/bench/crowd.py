"""Many machines in one process: what `boot` sends to `kactl pxe`. Prints one line of JSON.

    crowd.py dhcp|http|tftp|busy:IDLE:SLOW MACHINES SERVER HTTP-PORT BYTES

`busy` is HTTP with one file only, while as many others hold connections on which they ask for nothing, and others load a
large file slowly.
"""

import json
import resource
import selectors
import socket
import struct
import sys
import threading
import time

BROADCAST = ("255.255.255.255", 67)
FILES = ("vmlinuz", "all.rdz")
# A machine that hears nothing for this long asks again (RFC 2131, 4.1, and RFC 2347).
AGAIN = 4
PATIENCE = 600
# A slow machine takes so many bytes every so many seconds, for longer than the server waits for one that takes nothing.
SIP, SIP_EVERY, SLOW_FOR = 4096, 0.5, 40
# Idle ones come from other addresses than those that load; no address has more of them than the server allows.
IDLE_FROM = 900


def machine_address(number):
    """As boot.address."""
    return f"10.78.{64 + number // 250}.{1 + number % 250}"


def dhcp(machines, server, *_):
    """Everybody discovers at once, and requests what the server offers."""
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_REUSEADDR, socket.SO_BROADCAST):
        wire.setsockopt(socket.SOL_SOCKET, option, 1)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    wire.bind(("0.0.0.0", 68))
    wire.settimeout(0.1)
    began, state, refused, addresses = time.monotonic(), {}, 0, set()
    for number in range(machines):
        wire.sendto(question(number, 1), BROADCAST)
        state[number] = ("asked", began, question(number, 1))
    while any(what != "done" for what, _, _ in state.values()):
        now = time.monotonic()
        if now - began > 60:
            break
        for number, (what, since, packet) in state.items():
            if what != "done" and now - since > AGAIN:
                wire.sendto(packet, BROADCAST)
                state[number] = (what, now, packet)
        try:
            answer = wire.recv(1500)
        except TimeoutError:
            continue
        number, options = struct.unpack("!I", answer[4:8])[0], read_options(answer)
        kind = options.get(53, b"\0")[0]
        if kind == 2 and state[number][0] == "asked":
            packet = question(number, 3, requested=answer[16:20], server=options[54])
            wire.sendto(packet, BROADCAST)
            state[number] = ("offered", time.monotonic(), packet)
        elif kind == 5:
            state[number] = ("done", 0, b"")
            addresses.add(answer[16:20])
        elif kind == 6:
            refused += 1
            state[number] = ("asked", 0, question(number, 1))
    return {"refused": refused, "failed": machines - len(addresses)}, time.monotonic() - began


def question(number, kind, requested=None, server=None):
    """A DISCOVER or REQUEST, answered by broadcast, with PXE's class."""
    options = bytes([53, 1, kind, 60, 9]) + b"PXEClient"
    if requested:
        options += bytes([50, 4]) + requested + bytes([54, 4]) + server
    head = struct.pack("!BBBBIHH16x", 1, 1, 6, 0, number, 0, 0x8000)
    mac = bytes([2, 0, 0, 0, number >> 8, number & 255])
    return (head + mac + bytes(10 + 192) + b"\x63\x82\x53\x63" + options + b"\xff").ljust(300, b"\0")


def read_options(packet):
    """Options by code (RFC 2132)."""
    found, at = {}, 240
    while at < len(packet) and packet[at] != 255:
        if packet[at] == 0:
            at += 1
            continue
        length = packet[at + 1]
        found[packet[at]] = packet[at + 2:at + 2 + length]
        at += 2 + length
    return found


class Download:
    """One machine's files over HTTP, on one connection."""

    files = FILES

    def __init__(self, number, server, port, chooser):
        self.left, self.got, self.buffer, self.expected = list(self.files), 0, bytearray(1 << 18), None
        self.head = b""
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
        self.socket.bind((machine_address(number), 0))
        self.socket.setblocking(False)
        self.socket.connect_ex((server, port))
        chooser.register(self.socket, selectors.EVENT_WRITE, self)

    def ready(self, chooser):
        """One step; whether it has all."""
        if self.expected is None and not self.head:
            self.ask()
            chooser.modify(self.socket, selectors.EVENT_READ, self)
            self.head = b"?"
            return False
        length = self.socket.recv_into(self.buffer)
        if not length:
            raise ConnectionError("it ended early")
        data = self.buffer[:length]
        if self.expected is None:
            self.head += bytes(data)
            head, found, data = self.head[1:].partition(b"\r\n\r\n")
            if not found:
                return False
            if b" 200 " not in head.split(b"\r\n")[0]:
                raise ConnectionError(head.decode())
            line = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            self.expected = int(line.split(b":")[1])
        self.got += len(data)
        self.expected -= len(data)
        if self.expected:
            return False
        self.left.pop(0)
        if self.left:
            self.expected, self.head = None, b"?"
            self.ask()
        return not self.left

    def ask(self):
        """The next file."""
        self.socket.send(f"GET /{self.left[0]} HTTP/1.1\r\nHost: boot\r\n\r\n".encode())

    def late(self):
        """TCP asks again by itself."""


class Kernel(Download):
    """The kernel alone."""

    files = FILES[:1]


class Slow:
    """A machine that loads the large file, a sip at a time, and then fast."""

    def __init__(self, number, server, port):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 10)
        self.socket.bind((machine_address(number), 0))
        self.socket.connect((server, port))
        self.socket.sendall(b"GET /all.rdz HTTP/1.1\r\nHost: boot\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(1)
        line = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        self.left, self.cut = int(line.split(b":")[1]), False

    def take(self, size):
        """Takes so much, if it is there; notes it when it was cut off."""
        try:
            length = len(self.socket.recv(min(size, self.left)))
        except OSError:
            length = 0
        self.left -= length
        self.cut = self.cut or (length == 0 and self.left > 0)

    def finish(self):
        """The rest, as fast as it comes; whether all came."""
        while self.left and not self.cut:
            self.take(1 << 18)
        self.socket.close()
        return not self.cut


class Sippers:
    """All slow machines, in a thread of their own, so that they are slow by will alone."""

    def __init__(self, numbers, server, port):
        self.all, self.complete = [Slow(number, server, port) for number in numbers], 0
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        """Slow for a while, and then everything."""
        end = time.monotonic() + SLOW_FOR
        while time.monotonic() < end:
            for one in self.all:
                one.take(SIP)
            time.sleep(SIP_EVERY)
        self.complete = sum(one.finish() for one in self.all)


def idle_connections(count, server, port):
    """Half of them say nothing at all, the others have had an answer."""
    found = []
    for number in range(count):
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        one.bind((machine_address(IDLE_FROM + number % 90), 0))
        one.connect((server, port))
        if number % 2:
            one.sendall(b"HEAD /vmlinuz HTTP/1.1\r\nHost: boot\r\n\r\n")
            head = b""
            while b"\r\n\r\n" not in head:
                head += one.recv(1)
        found.append(one)
    return found


def count_dropped(connections):
    """How many of them the server ends, within the time that it says, and as much again."""
    dropped, end = 0, time.monotonic() + 60
    for one in connections:
        one.settimeout(max(0.1, end - time.monotonic()))
        try:
            dropped += one.recv(1) == b""
        except ConnectionError:
            dropped += 1
        except TimeoutError:
            pass
        one.close()
    return dropped


def busy(idle, slow, machines, server, port, size):
    """Everybody loads the kernel at once, while others are there that do little or nothing."""
    sippers = Sippers(range(machines, machines + slow), server, port)
    quiet = idle_connections(idle, server, port)
    found, seconds = load(Kernel, machines, server, port, size)
    dropped = count_dropped(quiet)
    sippers.thread.join()
    cut = slow - sippers.complete
    return found | {"dropped": dropped, "cut": cut}, seconds


class Transfer:
    """One machine's two files over TFTP, in blocks of 1408 bytes as pxelinux asks (RFC 2348)."""

    def __init__(self, number, server, _, chooser):
        self.left, self.got, self.block, self.peer, self.server = list(FILES), 0, 0, None, server
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((machine_address(number), 0))
        self.socket.setblocking(False)
        self.ask()
        chooser.register(self.socket, selectors.EVENT_READ, self)

    def ask(self):
        """The next file."""
        name = self.left[0].encode()
        self.say(b"\0\1" + name + b"\0octet\0blksize\0" + b"1408\0", (self.server, 69))
        self.block = 0

    def say(self, packet, to):
        """Keeps what may have to be said again."""
        self.last = (packet, to)
        self.heard = time.monotonic()
        self.socket.sendto(packet, to)

    def late(self):
        """Says the last again."""
        if time.monotonic() - self.heard > AGAIN:
            self.say(*self.last)

    def ready(self, _):
        """One packet; whether it has all."""
        packet, peer = self.socket.recvfrom(2048)
        kind, number = struct.unpack("!HH", packet[:4])
        if kind == 5:
            raise ConnectionError(packet[4:].decode(errors="replace"))
        if kind == 6:
            self.say(struct.pack("!HH", 4, 0), peer)
            return False
        if kind != 3 or number != (self.block + 1) & 0xFFFF:
            return False
        self.block += 1
        self.got += len(packet) - 4
        self.say(struct.pack("!HH", 4, number), peer)
        if len(packet) - 4 == 1408:
            return False
        self.left.pop(0)
        if self.left:
            self.ask()
        return not self.left


def load(kind, machines, server, port, size):
    """Everybody loads at once."""
    chooser, began = selectors.DefaultSelector(), time.monotonic()
    waiting = {kind(number, server, port, chooser) for number in range(machines)}
    failed, looked = 0, began
    while waiting and time.monotonic() - began < PATIENCE:
        for key, _ in chooser.select(1):
            one = key.data
            try:
                over = one.ready(chooser)
            except BlockingIOError:
                continue
            except OSError as error:
                print(f"{one.socket.getsockname()}: {error}")
                failed, over = failed + 1, True
            else:
                failed += over and one.got != size
            if over:
                waiting.discard(one)
                chooser.unregister(one.socket)
                one.socket.close()
        if time.monotonic() - looked > 1:
            looked = time.monotonic()
            for one in waiting:
                one.late()
    return {"refused": 0, "failed": failed + len(waiting)}, time.monotonic() - began


def main():
    """One kind of crowd."""
    what, machines, server, port, size = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    if what == "dhcp":
        found, seconds = dhcp(machines, server)
    elif what.startswith("busy:"):
        _, idle, slow = what.split(":")
        found, seconds = busy(int(idle), int(slow), machines, server, port, size)
    else:
        found, seconds = load({"http": Download, "tftp": Transfer}[what], machines, server, port, size)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps(found | {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime}))


if __name__ == "__main__":
    main()
