"""Tests of what the harness prints."""

import contextlib
import io
import threading
import unittest
from unittest import mock

import report


class Finish(unittest.TestCase):
    def finished(self, nodes, faults=()):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            told = report.Report()
            for number in range(nodes):
                told.cell(f"node{number}", "disk", "sda")
                told.found(f"node{number}", "tree", list(faults))
            status = told.finish()
        return status, out.getvalue()

    def test_the_end_counts_the_clones(self):
        for nodes, words in ((0, "qemu-test: OK, in"), (1, "OK: 1 of 1 clone is right"), (3, "OK: 3 of 3 clones are right")):
            status, out = self.finished(nodes)
            self.assertEqual(status, 0)
            self.assertIn(words, out.splitlines()[-1])

    def test_a_fault_is_no_ok(self):
        status, out = self.finished(2, ["a file is missing"])
        self.assertEqual(status, 1)
        self.assertNotIn("OK", out)


class Steps(unittest.TestCase):
    def test_a_long_step_does_not_stay_silent(self):
        said, again = [], threading.Event()

        def say(text):
            said.append(text)
            if "still at it" in text:
                again.set()

        told = report.Report()
        with mock.patch.object(report, "STILL_EVERY", 0.01), mock.patch.object(told, "_say", say):
            with told.step("A step"):
                self.assertTrue(again.wait(60))
        self.assertEqual((said[0], said[-1].split(":")[0]), ("A step …", "A step"))


if __name__ == "__main__":
    unittest.main()
