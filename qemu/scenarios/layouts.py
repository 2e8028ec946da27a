"""Generated partition tables as Debian's kernel reads them: MBRs with logical partitions and GPTs, with sectors of 512 and
of 4096 bytes, on disks from 200 MiB to 14 TiB.

Not every kernel on which ka is built reads partition tables, so `make test` leaves that judge out. COUNT is how many
tables there are. No machine is cloned here.
"""

import json
import os

import image
import workbench
from image import MIB
from place import CACHE, DISKS, LOGS, SOURCE
from scenario import BIGGER, Scenario, by_turns
from scenarios.default import GOLDEN
from shell import ToolFailed, run
from vm import Drive

SCENARIO = Scenario(name="layouts", about=__doc__, golden=GOLDEN, nodes=by_turns(BIGGER))
COUNT = 200
ROOM = 1024 * MIB  # for the tables; the images are holes but for them

# A line for each partition: image, number, start, size (in units of 512 bytes), all as the kernel has them. An emulated
# machine takes long to start a process, so there are few of them.
READ = """\
modprobe loop && mount -o ro /dev/vdb /mnt || exit 1
while read number sector; do
    loop=$(losetup --find --show --read-only --partscan --sector-size $sector /mnt/$number) || exit 1
    for part in /sys/block/${loop#/dev/}/${loop#/dev/}p*; do
        [ -e $part ] || continue
        read -r index < $part/partition && read -r start < $part/start && read -r size < $part/size || exit 1
        echo $number $index $start $size
    done
    losetup --detach $loop
done <<END
%s
END
umount /mnt
"""


def tell_instead(report):
    """The whole of this scenario, in place of a run."""
    count = int(os.environ.get("COUNT") or COUNT)
    disk = DISKS / "layouts.img"
    with report.step(f"{count} generated tables"):
        expected = write(disk, count)
    with report.step("Debian's kernel reads them"):
        found = read(disk, expected)
    faults = [fault for number, (table, parts) in enumerate(zip(expected, found))
              for fault in table_faults(number, table, parts)]
    report.found("kernel", f"{count} tables", faults)
    report.figure("partitions that the kernel has read", sum(map(len, found)))
    if not any(found):
        report.found("kernel", "reading", ["it has read no partition at all"])


def write(disk, count):
    """A file system with an image of each table; returns what is in the tables."""
    image.blank(disk, ROOM)
    # Files of 14 TiB need their room in the inode's extents only, and no journal.
    run("mkfs.ext4", "-qF", "-b", "4096", "-O", "^has_journal", disk)
    with image.loop(disk) as device, image.mounted(device) as folder:
        lines = run("cargo", "run", "--quiet", "--locked", "--manifest-path", SOURCE / "Cargo.toml", "-p", "ka-tests",
                    "--example", "layouts", "--", folder, count)
    return [json.loads(line) for line in lines.splitlines()]


def read(disk, expected):
    """What the kernel makes of each table: start and size in bytes by number."""
    wanted = "\n".join(f"{number} {table['sector']}" for number, table in enumerate(expected))
    with workbench.session(CACHE, LOGS, [Drive(disk, read_only=True)]) as bench:
        lines = bench.must(READ % wanted).splitlines()
    found = [{} for _ in expected]
    for line in lines:
        words = line.split()
        if len(words) != 4:
            raise ToolFailed(f"expected image, number, start and size, found {line!r}")
        number, part, start, size = map(int, words)
        found[number][part] = (start * 512, size * 512)
    return found


def table_faults(number, table, found):
    """Where the kernel's view is another one."""
    faults = []
    expected = {part["number"]: part for part in table["partitions"]}
    if expected.keys() != found.keys():
        faults.append(f"table {number} (sectors of {table['sector']}): the kernel sees partitions {sorted(found)},"
                      f" expected {sorted(expected)}")
    for part, (start, size) in found.items():
        wanted = expected.get(part)
        if not wanted:
            continue
        # Of an extended partition the kernel shows two sectors, so that nobody makes a file system there.
        right = size <= 2 * table["sector"] if wanted["extended"] else size == wanted["size"]
        if start != wanted["start"] or not right:
            faults.append(f"table {number} (sectors of {table['sector']}): partition {part} is {size} bytes at {start},"
                          f" expected {wanted['size']} at {wanted['start']}")
    return faults
