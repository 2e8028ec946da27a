"""A DHCP client, or a relay in front of one, made of scapy: sends one packet, and prints what comes back as JSON.

The argument is a JSON object:
  card       the interface
  mac        the machine's hardware address (52:54:00:77:00:01)
  arch       option 93, a number; without it, none is sent
  options    extra options, as [code, hex] pairs
  rom        calls itself PXEClient (option 60); a text is sent as it is
  giaddr     the address of the relay, which this then is: it sends from there to "server" by unicast
  server     the DHCP server's address, for a relay
  seconds    how long to wait for an answer (8); for one that must not come, a short time does not hurt

It prints null if no answer came, or the answer's fields: yiaddr siaddr giaddr file, and options by their numbers as hex.
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

options = [("message-type", "discover"), ("param_req_list", [1, 3, 6, 43, 54, 60, 66, 67])]
if "arch" in asked:
    options.append((93, asked["arch"].to_bytes(2, "big")))
if asked.get("rom"):
    name = asked["rom"] if isinstance(asked["rom"], str) else f"PXEClient:Arch:{asked.get('arch', 0):05}:UNDI:003016"
    options += [(60, name.encode()), (94, bytes([1, 3, 16])), (97, bytes([0] + [7] * 16))]
options += [(code, bytes.fromhex(text)) for code, text in asked.get("options", [])]
options.append("end")
xid = random.getrandbits(32)
bootp = BOOTP(op=1, chaddr=bytes.fromhex(mac.replace(":", "")) + bytes(10), xid=xid, flags=0x8000,
              giaddr=giaddr or "0.0.0.0", hops=1 if giaddr else 0) / DHCP(options=options)
if giaddr:
    way = Ether(dst=getmacbyip(asked.get("via", asked["server"])), src=get_if_hwaddr(card))
    packet = way / IP(src=giaddr, dst=asked["server"]) / UDP(sport=67, dport=67) / bootp
else:
    way = Ether(dst="ff:ff:ff:ff:ff:ff", src=mac)
    packet = way / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67) / bootp
packet = Ether(bytes(packet))

socket = conf.L2socket(iface=card, filter="udp and (dst port 68 or dst port 67)")
end = time.monotonic() + asked.get("seconds", 8)
again = 0
while time.monotonic() < end:
    if time.monotonic() >= again:
        socket.send(packet)
        again = time.monotonic() + 2
    heard = socket.recv() if socket.select([socket], 0.2) else None
    if heard is None or BOOTP not in heard or heard[BOOTP].op != 2 or heard[BOOTP].xid != xid:
        continue
    answer = heard[BOOTP]
    raw, found = bytes(answer.payload)[4:] if bytes(answer.payload)[:4] == b"\x63\x82\x53\x63" else bytes(answer.payload), {}
    while raw and raw[0] != 255:
        if raw[0] == 0:
            raw = raw[1:]
            continue
        found[raw[0]] = raw[2 : 2 + raw[1]].hex()
        raw = raw[2 + raw[1] :]
    print(json.dumps({
        "yiaddr": answer.yiaddr, "siaddr": answer.siaddr, "giaddr": answer.giaddr,
        "file": bytes(answer.file).split(b"\0")[0].decode(), "from": heard[IP].src, "to": heard[IP].dst,
        "options": found,
    }))
    break
else:
    print("null")
