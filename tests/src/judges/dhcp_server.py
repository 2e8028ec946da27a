"""A DHCP server made of scapy, which behaves as its first argument says, and reports what it hears.

The argument is a JSON object: the interface, and a list of servers, which all sit on it. Each has "id" (its address) and
may have:
  offer      the address that it offers; without it, it offers nothing
  options    extra options, as [code, hex] pairs
  mask       the subnet mask, or null to send none (255.255.255.0)
  lease      seconds (3600)
  request    what it does with a request to itself: "ack", "nak", "silent", or "every-second" (ack)
  nak_others refuse each request to another server, before that one answers
  unicast    send to the address that is offered, whatever the client asks for
  needs_rom  answer only to who calls itself PXEClient
  deaf       the number of DISCOVERs, and of REQUESTs, that it does not hear
  copies     how often it sends each answer (1)
  strangers  before each answer, send answers to others (another transaction, another card) and broken ones, all of them
             with another address
  overload   put mask and router 10.77.0.254 into the field of the file's name (option 52)
  in_turn    addresses; each DECLINE makes it offer the next of them

It prints a line "ready", and then one JSON object for each packet of a client.
"""

import json
import sys
import time

from scapy.all import BOOTP, DHCP, IP, UDP, Ether, conf, get_if_hwaddr
from scapy.layers.dhcp import DHCPOptions  # noqa: F401  (the names of the options)

settings = json.loads(sys.argv[1])
conf.verb = 0
card = settings["card"]
mine = get_if_hwaddr(card)
socket = conf.L2socket(iface=card, filter="udp and dst port 67")
requests = 0
counts = {}


def options_of(packet):
    """The options as the bytes that they are: scapy's own reading serves for the types only."""
    raw, found = bytes(packet[BOOTP].payload), {}
    raw = raw[4:] if raw[:4] == b"\x63\x82\x53\x63" else raw
    while raw and raw[0] != 255:
        if raw[0] == 0:
            raw = raw[1:]
            continue
        found[raw[0]] = raw[2 : 2 + raw[1]]
        raw = raw[2 + raw[1] :]
    return found


def address(value):
    return ".".join(map(str, value)) if value else None


def answer(packet, server, kind):
    bootp = packet[BOOTP]
    given = "0.0.0.0" if kind == "nak" else server["offer"]
    options = [("message-type", kind), ("server_id", server["id"])]
    if kind != "nak":
        options.append(("lease_time", server.get("lease", 3600)))
        if server.get("mask", "255.255.255.0"):
            options.append(("subnet_mask", server.get("mask", "255.255.255.0")))
        options += [(code, bytes.fromhex(text)) for code, text in server.get("options", [])]
    file = b""
    if server.get("overload") and kind != "nak":
        options = [option for option in options if option[0] != "subnet_mask"] + [(52, b"\x01")]
        file = bytes([1, 4, 255, 255, 255, 0, 3, 4, 10, 77, 0, 254, 255])
    unicast = server.get("unicast") or bootp.ciaddr != "0.0.0.0"
    link, ip = (packet[Ether].src, given) if unicast and kind != "nak" else ("ff:ff:ff:ff:ff:ff", "255.255.255.255")
    reply = (
        Ether(src=mine, dst=link)
        / IP(src=server["id"], dst=ip)
        / UDP(sport=67, dport=68)
        / BOOTP(op=2, xid=bootp.xid, flags=bootp.flags, yiaddr=given, ciaddr=bootp.ciaddr, chaddr=bootp.chaddr, file=file)
        / DHCP(options=options + ["end"])
    )
    if server.get("strangers"):
        for other in strangers(reply):
            socket.send(other)
    for _ in range(server.get("copies", 1)):
        socket.send(reply)


def strangers(reply):
    """Answers that are not for this client, or that nobody can read; scapy makes their lengths and checksums."""
    found = []
    for change in ({"xid": reply[BOOTP].xid ^ 1}, {"chaddr": bytes([2, 0, 0, 0, 0, 9]).ljust(16, b"\0")}, {"op": 1}):
        other = reply.copy()
        for field, value in change.items():
            setattr(other[BOOTP], field, value)
        other[BOOTP].yiaddr = "10.77.0.99"
        found.append(other)
    for cut in (200, 239, 243):
        data = bytes(reply[BOOTP])[:cut]
        found.append(Ether(src=mine, dst=reply[Ether].dst) / IP(src=reply[IP].src, dst=reply[IP].dst)
                     / UDP(sport=67, dport=68) / data)
    return found


def serve(packet):
    global requests
    if DHCP not in packet:
        return
    options = options_of(packet)
    kind = {1: "discover", 3: "request", 4: "decline"}.get(options.get(53, b"\0")[0], "other")
    told = {
        "kind": kind,
        "time": time.monotonic(),
        "length": packet[UDP].len - 8,
        "renews": packet[BOOTP].ciaddr != "0.0.0.0",
        "options": {str(code): value.hex() for code, value in options.items()},
    }
    print(json.dumps(told), flush=True)
    rom = options.get(60, b"").startswith(b"PXEClient")
    asked = address(options.get(54)) or (packet[IP].dst if packet[IP].dst != "255.255.255.255" else None)
    if kind == "request":
        requests += 1
        for server in settings["servers"]:
            if server.get("nak_others") and asked != server["id"]:
                answer(packet, server, "nak")
    counts[kind] = counts.get(kind, 0) + 1
    for server in settings["servers"]:
        if kind == "decline" and server.get("in_turn"):
            server["offer"] = server["in_turn"].pop(0)
        if counts[kind] <= server.get("deaf", 0):
            continue
        if "offer" not in server or (server.get("needs_rom") and not rom):
            continue
        if kind == "discover":
            answer(packet, server, "offer")
        elif kind == "request" and asked in (server["id"], None):
            does = server.get("request", "ack")
            if does in ("ack", "nak"):
                answer(packet, server, does)
            elif does == "every-second" and requests % 2 == 1:
                answer(packet, server, "ack")


print("ready", flush=True)
while True:
    heard = socket.recv()
    if heard is not None:
        serve(heard)
