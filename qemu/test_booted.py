"""The check of a running clone: each wrong answer is a fault, and right ones are none."""

import unittest

import booted
from clone import Identity
from scenarios.default import GOLDEN

OWN = Identity({(0, 1): "11111111-aaaa", (0, 2): "22222222-bbbb"})
CONSOLE = "SeaBIOS\nBooting from Hard Disk...\nGRUB loading.\nWelcome to GRUB!\n"
RIGHT = {
    "state": "running",
    "failed": "",
    "cmdline": "BOOT_IMAGE=/boot/vmlinuz-6.1 root=UUID=11111111-aaaa ro console=ttyS0",
    "mounts": "/ /dev/vda1 11111111-aaaa ext4 rw,relatime,errors=remount-ro",
    "swap": "/dev/vda2 22222222-bbbb",
    "fstab": "# made by ka\nUUID=11111111-aaaa / ext4 defaults,errors=remount-ro 0 1\nUUID=22222222-bbbb none swap sw 0 0\n",
    "machine-id": "0123456789abcdef0123456789abcdef",
    "cards": "",
    "serials": "vda node1",
}


def faults(console=CONSOLE, **answers):
    answers = RIGHT | answers
    return booted.faults(answers, console, ["vda"], GOLDEN, OWN) + booted.serial_faults(answers, {"vda": "node1"})


class Booted(unittest.TestCase):
    def test_a_sound_clone_has_no_faults(self):
        self.assertEqual(faults(), [])

    def test_each_wrong_answer_is_a_fault(self):
        for wrong in (
            {"state": "degraded"},
            {"cmdline": RIGHT["cmdline"].replace("11111111", "99999999")},
            {"cmdline": "initrd=all.rdz root=UUID=11111111-aaaa"},
            {"mounts": "/ /dev/vdb1 11111111-aaaa ext4 rw"},
            {"mounts": "/ /dev/vda1 99999999-aaaa ext4 rw"},
            {"mounts": "/ /dev/vda1 11111111-aaaa ext4 ro"},
            {"mounts": ""},
            {"swap": ""},
            {"swap": "/dev/vda2 99999999-bbbb"},
            {"fstab": RIGHT["fstab"].replace("22222222", "99999999")},
            {"fstab": RIGHT["fstab"] + "UUID=3 /home ext4 defaults 0 2\n"},
            {"machine-id": "uninitialized"},
            {"machine-id": ""},
            {"cards": "eth0/device"},
            {"serials": "vda golden"},
            {"console": CONSOLE.replace("GRUB", "LILO")},
            {"console": "iPXE initialising devices...ok\n" + CONSOLE},
        ):
            with self.subTest(wrong):
                self.assertGreaterEqual(len(faults(**wrong)), 1)

    def test_identities_that_are_shared_are_named(self):
        self.assertEqual(booted.shared_ids({"golden": "a", "node1": "b", "node2": "c"}), [])
        self.assertEqual(booted.shared_ids({"golden": "a", "node1": "b", "node2": "a"}), ["golden and node2 share a"])


if __name__ == "__main__":
    unittest.main()
