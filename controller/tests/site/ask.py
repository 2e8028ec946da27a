"""A DHCP client, or a relay in front of one, made of scapy: sends one packet, and prints what comes back as JSON.

The argument is a JSON object:
  card       the interface
  mac        the machine's hardware address (52:54:00:77:00:01)
  arch       option 93, a number; without it, none is sent
  options    extra options, as [code, hex] pairs
  rom        calls itself PXEClient (option 60); a text is sent as it is
  giaddr     the address of the relay, which this then is: it sends from there to "server" by unicast
  server     the DHCP server's address (10.77.0.1)
  pxe        follows an offer without a file to the boot server (port 4011), from this address
  seconds    how long to wait for an answer (8); for one that must not come, a short time does not hurt

It prints null if no answer came, or the answer's fields: yiaddr siaddr giaddr file (or option 67), from, to, and options
by their numbers as hex.
"""

import json
import random
import sys
import time

from scapy.all import BOOTP, DHCP, IP, UDP, Ether, conf, get_if_hwaddr, getmacbyip
from scapy.layers.dhcp import DHCPOptions  # noqa: F401  (the names of the options)

asked = json.loads(sys.argv[1])
conf.verb = 0
card = asked.get("card", "cli")
mac = asked.get("mac", "52:54:00:77:00:01")
giaddr = asked.get("giaddr")
conf.iface = card

about = []
if "arch" in asked:
    about.append((93, asked["arch"].to_bytes(2, "big")))
if asked.get("rom"):
    name = asked["rom"] if isinstance(asked["rom"], str) else f"PXEClient:Arch:{asked.get('arch', 0):05}:UNDI:003016"
    about += [(60, name.encode()), (94, bytes([1, 3, 16])), (97, bytes([0] + [7] * 16))]
about += [(code, bytes.fromhex(text)) for code, text in asked.get("options", [])]
wanted = ("param_req_list", [1, 3, 6, 43, 54, 60, 66, 67])
chaddr = bytes.fromhex(mac.replace(":", "")) + bytes(10)
socket = conf.L2socket(iface=card)


def options_of(answer):
    raw, found = bytes(answer.payload), {}
    raw = raw[4:] if raw[:4] == b"\x63\x82\x53\x63" else raw
    while raw and raw[0] != 255:
        if raw[0] == 0:
            raw = raw[1:]
            continue
        found[raw[0]] = raw[2 : 2 + raw[1]]
        raw = raw[2 + raw[1] :]
    return found


def exchange(way, kind, options, **fields):
    """Sends until an answer comes; what it says."""
    xid = random.getrandbits(32)
    bootp = BOOTP(op=1, chaddr=chaddr, xid=xid, **fields)
    packet = Ether(bytes(way / bootp / DHCP(options=[("message-type", kind), wanted, *about, *options, "end"])))
    end, again = time.monotonic() + asked.get("seconds", 8), 0
    while time.monotonic() < end:
        if time.monotonic() >= again:
            socket.send(packet)
            again = time.monotonic() + 2
        heard = socket.recv() if socket.select([socket], 0.2) else None
        # A boot server answers from a port that scapy does not know.
        if heard is None or UDP not in heard or heard[UDP].dport not in (67, 68):
            continue
        answer = BOOTP(bytes(heard[UDP].payload))
        if answer.op != 2 or answer.xid != xid:
            continue
        found = options_of(answer)
        file = bytes(answer.file).split(b"\0")[0] or found.get(67, b"").split(b"\0")[0]
        return {
            "yiaddr": answer.yiaddr, "siaddr": answer.siaddr, "giaddr": answer.giaddr, "file": file.decode(),
            "from": heard[IP].src, "to": heard[IP].dst, "options": {code: value.hex() for code, value in found.items()},
        }
    return None


def unicast(source, port):
    server = asked.get("server", "10.77.0.1")
    return Ether(dst=getmacbyip(server), src=get_if_hwaddr(card)) / IP(src=source, dst=server) / UDP(sport=port, dport=67)


if giaddr:
    answer = exchange(unicast(giaddr, 67), "discover", [], flags=0x8000, giaddr=giaddr, hops=1)
else:
    way = Ether(dst="ff:ff:ff:ff:ff:ff", src=mac) / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67)
    answer = exchange(way, "discover", [], flags=0x8000)
if answer and asked.get("pxe") and not answer["file"]:
    # A menu of one boot server (option 43, sub-option 9) is answered with its number (71).
    menu, item = bytes.fromhex(answer["options"].get(43, "")), []
    while menu and menu[0] not in (0, 255):
        if menu[0] == 9:
            item = [(43, bytes([71, 4]) + menu[2:4] + bytes([0, 0, 255]))]
        menu = menu[2 + menu[1] :]
    way = unicast(asked["pxe"], 68)
    way[UDP].dport = 4011
    answer = exchange(way, "request", item, ciaddr=asked["pxe"])
print(json.dumps(answer))
