"""What every scenario says of its machines holds together, before hours of virtual machines show it."""

import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

import blank
import check
import clone
import golden
import image
import scenarios

HERE = Path(__file__).parent


class Scenarios(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="ka-scenarios-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def each(self):
        for name in scenarios.names():
            with self.subTest(name):
                yield scenarios.load(name)

    def test_golden_tables_are_what_the_volumes_say(self):
        for scenario in self.each():
            for index, disk in enumerate(scenario.golden.disks):
                path = self.folder / f"{index}.img"
                image.blank(path, disk.size)
                golden.write_table(path, disk)
                self.assertEqual(clone.table_faults([image.Disk(path, disk.sector)],
                                                    only(scenario.golden, disk)), [])

    def test_used_disks_can_be_made_for_every_machine(self):
        kinds = {disk for scenario in self.each() for machine in scenario.nodes(4) for disk in machine.disks}
        for disk in kinds:
            blank.make(self.folder / "used.img", disk)
            self.assertGreater(len(image.partitions(self.folder / "used.img", disk.sector)), 1)

    def test_every_machine_has_a_disk_for_each_golden_one(self):
        for scenario in self.each():
            self.assertEqual({len(machine.disks) for machine in scenario.nodes(4)}, {len(scenario.golden.disks)})
            self.assertEqual(len(scenario.selections), len(scenario.golden.disks))
            self.assertTrue(scenario.about.strip())

    def test_fstab_names_every_volume_once_in_order(self):
        for scenario in self.each():
            uuids = {(index, volume.number): f"{index}-{volume.number}"
                     for index, disk in enumerate(scenario.golden.disks) for volume in disk.volumes}
            places = [line.split()[1] for line in golden.fstab(scenario.golden, uuids).splitlines()]
            mounts = [place for place in places if place != "none"]
            self.assertEqual(mounts[0], "/")
            self.assertEqual(len(set(mounts)), len(mounts))
            for position, place in enumerate(mounts):
                inner = [other for other in mounts[:position] if other.startswith(place.rstrip("/") + "/")]
                self.assertEqual(inner, [], f"{place} comes after what is mounted in it")

    def test_the_lists_of_exceptions_are_acceptable(self):
        for scenario in self.each():
            own = HERE / "scenarios" / f"exceptions-{scenario.name}.txt"
            lists = [HERE / "exceptions.txt", HERE / "exceptions-names.txt", *([own] if own.exists() else [])]
            self.assertTrue(check.load_all(lists, "6.1.0"))


def only(whole, disk):
    """A golden machine with this disk alone."""
    return replace(whole, disks=(disk,))


if __name__ == "__main__":
    unittest.main()
