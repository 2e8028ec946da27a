"""A switch's port that takes and gives tagged frames: between a virtual machine and a host with plain ones.

    vlan_port.py TAP VLAN OWN-SOCKET QEMU-SOCKET

Makes the interface TAP, and passes what comes with the tag VLAN to it, without the tag, and all that comes from it to the
virtual machine, with the tag. What has no tag, or another one, goes nowhere. Prints "ready", and then for each frame of the
virtual machine a JSON object of what scapy reads in it.
"""

import fcntl
import json
import os
import select
import socket
import struct
import sys

from scapy.all import ARP, BOOTP, IP, Dot1Q, Ether

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 2, 0x1000

name, vlan, own, machine = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
wire = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
wire.bind(own)
tag = struct.pack("!HH", 0x8100, vlan)


def told(frame):
    tagged = frame.getlayer(Dot1Q)
    return {
        "tag": tagged.vlan if tagged else None,
        "is": "dhcp" if BOOTP in frame else "arp" if ARP in frame else "ip" if IP in frame else "other",
    }


print("ready", flush=True)
while True:
    for source in select.select([wire, tap], [], [])[0]:
        if source is wire:
            data = wire.recv(1 << 16)
            frame = Ether(data)
            print(json.dumps(told(frame)), flush=True)
            if Dot1Q in frame and frame[Dot1Q].vlan == vlan:
                try:
                    os.write(tap, data[:12] + data[16:])
                except OSError:
                    # The interface is not up yet.
                    pass
        else:
            data = os.read(tap, 1 << 16)
            try:
                wire.sendto(data[:12] + tag + data[12:], machine)
            except OSError:
                # No machine is there, or not any more.
                pass
