"""Volume groups on the host, which may have no device mapper: what LVM writes down is read from the disk itself.

A linear volume of one segment is a window on its partition, so the harness mounts it by a loop device with an
offset. LVM's tools make such volumes without the kernel's help, as long as nothing is activated. In the list of
an image's partitions the volumes come last, in the order of their names, numbered from FIRST.
"""

import re
import struct

from shell import ToolFailed, run

GROUP = "vg0"
FIRST = 101  # the number of the first volume
TYPES = {"8E", "E6D6D379-F507-44C2-A23C-238F2A3DF928"}  # of partitions, on both kinds of tables
HEADER = 4096  # where the metadata area begins; its text says the rest
UNIT = 512  # LVM counts in such sectors, whatever the disk's are


def node(volume):
    """The name of a volume's device, on every machine."""
    return f"/dev/mapper/{GROUP}-{volume.lv}"


def make(device, volumes):
    """Make the group on a device, and its volumes; one without a size takes what the others leave."""
    settings = (f'devices {{ filter=["a|^{device}$|", "r|.*|"] use_devicesfile=0 }}'
                " activation { udev_sync=0 udev_rules=0 monitoring=0 } backup { backup=0 archive=0 }")

    def tool(name, *words):
        run("lvm", name, "--driverloaded", "n", "--config", settings, "-y", *words)

    tool("pvcreate", device)
    tool("vgcreate", GROUP, device)
    for volume in sorted(volumes, key=lambda volume: volume.size is None):
        size = ("-l", "100%FREE") if volume.size is None else ("-L", f"{volume.size}b")
        tool("lvcreate", "-an", "-Zn", "-Wn", *size, "-n", volume.lv, GROUP)


def volumes(image, start):
    """The linear volumes of the group whose one physical volume begins there: name, start and size in bytes."""
    text = metadata(image, start)
    if text is None:
        return []
    group = parse(text)[GROUP]
    [pv] = group["physical_volumes"].values()
    extent = int(group["extent_size"]) * UNIT
    found = []
    for name, volume in sorted(group.get("logical_volumes", {}).items()):
        if volume["segment_count"] != "1" or volume["segment1"].get("stripe_count") != "1":
            raise ToolFailed(f"{image}: {name} is not one linear segment: {volume}")
        segment = volume["segment1"]
        first = int(re.search(r"(\d+)", segment["stripes"].split(",")[1])[1])
        found.append((name, start + int(pv["pe_start"]) * UNIT + first * extent,
                      int(segment["extent_count"]) * extent))
    return found


def metadata(image, start):
    """The text in which LVM keeps a group, or None where there is none."""
    with open(image, "rb") as file:
        file.seek(start + HEADER)
        header = file.read(512)
        if header[4:20] != b" LVM2 x[5A%r0N*>":
            return None
        offset, size = struct.unpack_from("<QQ", header, 40)
        file.seek(start + HEADER + offset)
        return file.read(size).decode().rstrip("\0")


def parse(text):
    """LVM's text as dictionaries; a list is one word."""
    tokens = re.findall(r'"(?:[^"\\]|\\.)*"|#[^\n]*|\[[^\]]*\]|[{}=]|[^\s{}=#]+', text)
    tokens = iter([token for token in tokens if not token.startswith("#")])

    def section():
        found = {}
        for name in tokens:
            if name == "}":
                break
            mark = next(tokens)
            found[name] = section() if mark == "{" else next(tokens).strip('"')
        return found

    return section()
