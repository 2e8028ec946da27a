"""The checker is worth something only if it fails: each test plants one difference.

Run as root, on real ext4 file systems: `python3 -m unittest discover -s qemu`.
"""

import contextlib
import os
import shutil
import tempfile
import unittest
from pathlib import Path

import check
import image
import manifest
import material
from image import MIB
from shell import run


class Trees(unittest.TestCase):
    """Two ext4 images with the same material; a test changes the second."""

    @classmethod
    def setUpClass(cls):
        cls.resources = contextlib.ExitStack()
        cls.addClassCleanup(cls.resources.close)
        folder = Path(cls.resources.enter_context(tempfile.TemporaryDirectory(prefix="ka-check-")))
        cls.golden = cls.new_tree(folder / "golden.img")
        cls.expected = manifest.take(cls.golden)
        cls.images = folder

    @classmethod
    def new_tree(cls, path):
        image.blank(path, 256 * MIB)
        run("mkfs.ext4", "-q", "-b", "4096", "-I", "256", path)
        device = cls.resources.enter_context(image.loop(path))
        root = cls.resources.enter_context(image.mounted(device))
        (root / "opt").mkdir()
        cls.plant(root)
        os.utime(root / "srv", ns=(0, 0))
        os.utime(root / "lost+found", ns=(0, 0))
        os.utime(root, ns=(0, 0))
        os.sync()
        return root

    @staticmethod
    def plant(root):
        material.plant(root)
        os.utime(root / "opt", ns=(0, 0))
        material.plant_traits(root, ["/"])


class Preallocated(unittest.TestCase):
    """Room that was never written is neither data nor a hole, whoever has read the file before."""

    def test_it_is_told_apart_from_data_and_holes(self):
        for kind in ("ext4", "xfs", "btrfs"):
            with self.subTest(kind), tempfile.TemporaryDirectory(prefix="ka-check-") as folder, \
                    image_of(Path(folder) / "golden.img", kind) as golden:
                self.plant(golden / "room", preallocated=True)
                self.plant(golden / "copy")
                self.plant(golden / "filled", filled=True)
                self.plant(golden / "spoiled", hole=True)
                os.sync()
                for number in range(2):  # the second time all of it is in the cache
                    entries = manifest.take(golden)
                    room = entries["/room"]
                    self.assertEqual((room["data"], room["preallocated"]), ([[0, 16], [32, 48]], [[16, 32]]), number)
                    for name, faults in (("copy", 0), ("filled", 0), ("spoiled", 1)):
                        found = check.compare({"/f": room | {"mtime": 0}}, {"/f": entries["/" + name] | {"mtime": 0}})
                        self.assertEqual(sum(": data is" in fault for fault in found), faults, found)

    @staticmethod
    def plant(path, preallocated=False, filled=False, hole=False):
        with open(path, "wb") as file:
            file.write(b"\xa5" * (4 << 14))
            if preallocated:
                file.flush()
                os.posix_fallocate(file.fileno(), 4 << 14, 4 << 14)
            elif filled:
                file.write(bytes(4 << 14))
            file.seek(8 << 14)
            if hole:
                file.seek(4096, os.SEEK_CUR)
                file.write(b"\xa5" * ((4 << 14) - 4096))
            else:
                file.write(b"\xa5" * (4 << 14))


@contextlib.contextmanager
def image_of(path, kind):
    image.blank(path, 320 * MIB)
    run(f"mkfs.{kind}", "-q", path)
    with image.loop(path) as device, image.mounted(device, kind=kind) as root:
        yield root


class SameTrees(Trees):
    def test_two_trees_of_the_same_material_are_equal(self):
        clone = self.new_tree(self.images / "clone.img")
        self.assertEqual(check.compare(self.expected, manifest.take(clone)), [])

    def test_a_copy_by_gnu_tar_is_equal(self):
        copy = self.images / "copy.img"
        image.blank(copy, 256 * MIB)
        run("mkfs.ext4", "-q", "-b", "4096", "-I", "256", copy)
        with image.loop(copy) as device, image.mounted(device) as clone:
            run("bash", "-c", 'tar -C "$0" --numeric-owner --xattrs --xattrs-include="*" --sparse --format=posix -c .'
                ' | tar -C "$1" --numeric-owner --xattrs --xattrs-include="*" -xp', self.golden, clone)
            os.sync()
            found = check.compare(self.expected, manifest.take(clone))
            # GNU tar archives a fifo with two names as two fifos, and no flags.
            lost = [line for line in found if ": flags is" in line and ("/flags/" in line or "/traits/" in line)]
            fifos = [line for line in found if "/fifo" in line]
            self.assertEqual((len(found), len(fifos)), (len(lost) + 2, 2), found)
            self.assertGreater(len(lost), 10)

    def test_a_saved_manifest_comes_back(self):
        path = self.images / "manifest"
        manifest.save(self.expected, path)
        self.assertEqual(manifest.load(path), self.expected)

    def test_the_hash_is_the_sha256_that_others_compute(self):
        for name in ("compressible", "hole-odd-end", "hole-all", "zeros-written", "size-513", "empty-file"):
            path = f"/{material.FOLDER}/{name}"
            judged = run("sha256sum", f"{self.golden}{path}").split()[0]
            self.assertEqual(self.expected[path]["sha256"], judged, name)


class OneDifference(Trees):
    """Each test plants one fault, sees it found, and takes it back."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.clone = cls.new_tree(cls.images / "clone.img")

    def at(self, name):
        return os.path.join(self.clone, material.FOLDER, name)

    @contextlib.contextmanager
    def keeping_times(self, *names):
        """Change something without a trace in the times, as a careless copy would."""
        folders = {os.path.dirname(self.at(name)) for name in names}
        kept = {path: os.lstat(path) for path in [*map(self.at, names), *folders] if os.path.lexists(path)}
        yield
        for path, status in kept.items():
            if os.path.lexists(path):
                os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns), follow_symlinks=False)
        os.sync()

    def differences(self):
        return check.compare(self.expected, manifest.take(self.clone))

    def assert_found(self, name, *facts):
        found = self.differences()
        path = f"/{material.FOLDER}/{name}"
        self.assertEqual(sorted(facts), sorted(line.split(": ", 1)[1].split(" is ")[0] for line in found), found)
        for line in found:
            self.assertTrue(line.startswith(path), line)

    def tearDown(self):
        material.unseal(self.clone)
        shutil.rmtree(self.at(""))
        shutil.rmtree(self.clone / "opt/traits")
        self.plant(self.clone)
        os.utime(self.clone / "srv", ns=(0, 0))
        os.sync()
        self.assertEqual(self.differences(), [], "the clone was not put right again")

    def test_nothing_is_found_where_nothing_differs(self):
        self.assertEqual(self.differences(), [])

    def test_a_byte(self):
        with self.keeping_times("incompressible"), open(self.at("incompressible"), "r+b") as file:
            file.seek(4_000_000)
            byte = file.read(1)
            file.seek(4_000_000)
            file.write(bytes([byte[0] ^ 1]))
        self.assert_found("incompressible", "sha256")

    def test_a_flag(self):
        run("chattr", "-d", self.at("flags/file-d"))
        self.assertEqual(len(self.differences()), 2, "both names of the file")
        run("chattr", "+d", self.at("flags/file-d"))
        run("chattr", "-i", self.at("flags/folder-i"))
        self.assert_found("flags/folder-i", "flags")

    def test_what_btrfs_decides_is_no_difference(self):
        expected = {"/f": {"flags": "0x40"}, "/g": {}, "/h": {"flags": "0x400"}}
        self.assertEqual(check.compare(expected, expected | {"/f": {"flags": "0x440"}, "/g": {"flags": "0x400"}}), [])
        self.assertEqual(len(check.compare(expected, expected | {"/h": {}})), 1)
        self.assertEqual(len(check.compare(expected, expected | {"/g": {"flags": "0x410"}})), 1)

    def test_a_mode(self):
        os.chmod(self.at("mode-4755"), 0o755)
        self.assert_found("mode-4755", "mode")

    def test_an_owner(self):
        os.chown(self.at("dangling"), 1000, 1000, follow_symlinks=False)
        self.assert_found("dangling", "owner")

    def test_a_nanosecond(self):
        status = os.stat(self.at("time-ns"))
        os.utime(self.at("time-ns"), ns=(0, status.st_mtime_ns + 1))
        self.assert_found("time-ns", "mtime")

    def test_the_time_of_a_folder(self):
        os.utime(self.at("empty"), ns=(0, 0))
        self.assert_found("empty", "mtime")

    def test_the_time_of_a_symlink(self):
        os.utime(self.at("dangling"), ns=(0, 0), follow_symlinks=False)
        self.assert_found("dangling", "mtime")

    def test_a_changed_xattr(self):
        os.setxattr(self.at("xattr"), "user.empty", b"not")
        self.assert_found("xattr", "xattrs")

    def test_a_lost_capability(self):
        os.removexattr(self.at("capability"), "security.capability")
        self.assert_found("capability", "xattrs")

    def test_a_lost_default_acl(self):
        os.removexattr(self.at("acl-folder"), "system.posix_acl_default")
        self.assert_found("acl-folder", "xattrs")

    def test_an_added_xattr(self):
        os.setxattr(self.at("fifo"), "trusted.added", b"")
        found = self.differences()
        self.assertEqual(len(found), 2, found)  # the fifo has two names

    def test_the_target_of_a_symlink(self):
        with self.keeping_times("dangling"):
            os.remove(self.at("dangling"))
            os.symlink("elsewhere", self.at("dangling"))
            os.chown(self.at("dangling"), 1000, 1001, follow_symlinks=False)
        self.assert_found("dangling", "target")

    def test_a_broken_hard_link(self):
        with self.keeping_times("zz-fourth"):
            shutil.copy2(self.at("zz-fourth"), self.at("zz-copy"))
            os.rename(self.at("zz-copy"), self.at("zz-fourth"))
        found = self.differences()
        self.assertEqual(len(found), 4, found)
        self.assertTrue(all("hard links" in line for line in found), found)

    def test_a_hole_that_was_filled(self):
        with self.keeping_times("hole-odd-end"), open(self.at("hole-odd-end"), "r+b") as file:
            file.seek(200_000)
            file.write(bytes(4096))
        self.assert_found("hole-odd-end", "data")

    def test_a_hole_that_was_not_there(self):
        with self.keeping_times("zeros-written"):
            run("fallocate", "--dig-holes", self.at("zeros-written"))
        self.assert_found("zeros-written", "data")

    def test_a_size(self):
        with self.keeping_times("hole-all"):
            os.truncate(self.at("hole-all"), (64 << 20) - 1)
        self.assert_found("hole-all", "sha256", "size")

    def test_a_missing_file(self):
        with self.keeping_times("many/file-0500"):
            os.remove(self.at("many/file-0500"))
        self.assert_found("many/file-0500", "missing")

    def test_a_file_too_many(self):
        with self.keeping_times("many/file-extra"):
            Path(self.at("many/file-extra")).touch()
        self.assert_found("many/file-extra", "should not be there")

    def test_another_type(self):
        with self.keeping_times("fifo-too"):
            os.remove(self.at("fifo-too"))
            os.mkdir(self.at("fifo-too"), 0o622)
        found = " ".join(self.differences())
        self.assertIn("/fifo-too: type is directory, expected fifo", found)

    def test_another_device(self):
        with self.keeping_times("null"):
            os.remove(self.at("null"))
            os.mknod(self.at("null"), 0o020666, os.makedev(1, 5))
            os.chmod(self.at("null"), os.stat(f"{self.golden}/{material.FOLDER}/null").st_mode & 0o7777)
            os.utime(self.at("null"), ns=(0, self.expected[f"/{material.FOLDER}/null"]["mtime"]))
        self.assertIn(f"/{material.FOLDER}/null: device is 1:5, expected 1:3", self.differences())

    def test_a_name_that_is_not_utf8(self):
        names = os.fsencode(self.at("names"))
        with self.keeping_times("names/x"):
            os.rename(names + b"/latin1-\xe9\xe8", names + "/latin1-éè".encode())
        self.assertEqual(len(self.differences()), 2)


class Exceptions(unittest.TestCase):
    """What an exception allows, and what the list's loader refuses."""

    FILE = {"type": "file", "mode": "0644", "sha256": "aa", "mtime": 1, "size": 2, "data": [[0, 1]]}
    FOLDER = {"type": "directory", "mode": "0755", "mtime": 1}

    def load(self, text):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(text)
            file.flush()
            return check.load_exemptions(file.name, "6.1.0")

    def compare(self, expected, found, mark):
        return check.compare(expected, found, [check.Exemption("/etc/x", mark, "why")])

    def test_content_covers_bytes_and_time_but_no_more(self):
        changed = self.FILE | {"sha256": "bb", "mtime": 9, "size": 3, "data": []}
        self.assertEqual(self.compare({"/etc/x": self.FILE}, {"/etc/x": changed}, "[content]"), [])
        worse = changed | {"mode": "0600"}
        self.assertEqual(len(self.compare({"/etc/x": self.FILE}, {"/etc/x": worse}, "[content]")), 1)
        self.assertEqual(len(self.compare({"/etc/x": self.FILE}, {}, "[content]")), 1)

    def test_tree_covers_what_lies_below_but_not_the_folder(self):
        expected = {"/etc/x": self.FOLDER, "/etc/x/secret": self.FILE, "/etc/xy": self.FILE}
        found = {"/etc/x": self.FOLDER | {"mtime": 5}, "/etc/xy": self.FILE}
        self.assertEqual(self.compare(expected, found, "[tree]"), [])
        self.assertEqual(len(self.compare(expected, {"/etc/xy": self.FILE}, "[tree]")), 1)
        self.assertEqual(len(self.compare(expected, {"/etc/x": self.FOLDER}, "[tree]")), 1)

    def test_a_value_must_differ(self):
        other = self.FILE | {"sha256": "bb"}
        self.assertEqual(self.compare({"/etc/x": self.FILE}, {"/etc/x": other}, "[value]"), [])
        self.assertEqual(len(self.compare({"/etc/x": self.FILE}, {"/etc/x": self.FILE}, "[value]")), 1)

    def test_an_exception_that_nothing_needs_is_named(self):
        exemption = check.Exemption("/etc/x", "[content]", "why")
        trees = {"/etc/x": self.FILE}, {"/etc/x": self.FILE}
        self.assertEqual(check.unneeded(*trees, [exemption]), [exemption])

    def test_the_committed_lists_are_acceptable(self):
        for name in ("exceptions.txt", "exceptions-golden.txt"):
            found = check.load_exemptions(Path(__file__).parent / name, "6.1.0")
            self.assertTrue(found)
            self.assertTrue(all("${" not in exemption.path for exemption in found))

    def test_a_list_that_is_too_long_or_too_broad_is_refused(self):
        line = "/etc/file-{} [content] a reason\n"
        self.assertEqual(len(self.load("".join(line.format(n) for n in range(15)))), 15)
        for bad in (
            "".join(line.format(n) for n in range(16)),
            "/etc/* [content] a pattern\n", "etc/x [content] relative\n", "/etc/x no mark\n", "/etc/x [all] what\n",
            "/etc/x [content]\n", "/usr [tree] everything\n", "/ [tree] everything\n", "/etc/x [content] a\n" * 2,
        ):
            with self.subTest(bad), self.assertRaises(check.BadExceptions):
                self.load(bad)


if __name__ == "__main__":
    unittest.main()
