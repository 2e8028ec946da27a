"""What the bench concludes from its figures, without hosts and without root."""

import hashlib
import tempfile
import unittest
import xml.etree.ElementTree
from collections import deque
from pathlib import Path

import cases
import fast
import injections
import report
from bench import GIB, Series, Setting
from clock import Clock
from flow import Job, Outcome, check_files
from peers import info_hash


def outcome(seconds):
    return Outcome(seconds, seconds is not None, 0, 1.0, 1 << 20, 1 << 20, None)


def row(**more):
    return {
        "case": "scale", "tool": "ka", "nodes": 8, "rate_mbit": 100, "bytes": 1 << 20, "seconds": 1.5, "limit_seconds": 1.0,
        "added_seconds": 0.5, "added_to": "limit", "cpu_seconds_per_gib": 1.0, "peak_rss_bytes": 1 << 20,
        "survivors_correct": True, "failed_nodes": 0, "target": None, "reached": None, "note": ""} | more


class Figures(unittest.TestCase):
    def test_a_run_that_did_not_complete_leaves_no_median(self):
        self.assertEqual(Series([outcome(1), outcome(3), outcome(2)]).seconds, 2)
        self.assertIsNone(Series([outcome(1), outcome(None), outcome(2)]).seconds)

    def test_a_gap_begins_with_the_fault_at_the_latest(self):
        clock = Clock.__new__(Clock)
        clock._actives = [1.0, 1.1, 3.1, 3.2]
        self.assertAlmostEqual(clock.longest_gap(1.6), 1.5)
        self.assertAlmostEqual(clock.longest_gap(1.0), 2.0)
        self.assertIsNone(clock.longest_gap(4.0))

    def test_the_clock_starts_with_the_first_data_and_not_with_greetings(self):
        before, greeting, quiet, data = (1.0, 0), (1.5, 3000), (1.505, 3000), (1.506, 40_000)
        clock = Clock.__new__(Clock)
        clock.began, clock._recent = None, deque([before])
        for at, clock.sent in (greeting, quiet, data):
            clock._look_for_data(at)
            self.assertIsNone(clock.began)
        clock.sent = 80_000
        clock._look_for_data(1.507)
        self.assertEqual(clock.began, 1.505)

    def test_data_that_comes_at_once_is_not_missed(self):
        clock = Clock.__new__(Clock)
        clock.began, clock._recent, clock.sent = None, deque([(1.0, 0)]), 200_000
        clock._look_for_data(1.003)
        self.assertEqual(clock.began, 1.0)

    def test_a_missing_or_altered_copy_is_noticed(self):
        with tempfile.TemporaryDirectory() as folder:
            job = Job(Path(folder) / "source", 3, Path(folder))
            job.source.write_bytes(b"abc")
            for host in (1, 2):
                job.sink(host).parent.mkdir()
                job.sink(host).write_bytes(b"abc")
            self.assertTrue(check_files(job, [1, 2]))
            self.assertFalse(check_files(job, [1, 2, 3]))
            job.sink(2).write_bytes(b"abd")
            self.assertFalse(check_files(job, [1, 2]))

    def test_a_torrent_is_known_by_the_hash_of_its_info(self):
        info = b"d6:lengthi3e4:name4:info12:piece lengthi1e6:pieces2:e:e"
        with tempfile.TemporaryDirectory() as folder:
            torrent = Path(folder) / "a.torrent"
            torrent.write_bytes(b"d8:announce3:url4:info" + info + b"e")
            self.assertEqual(info_hash(torrent), hashlib.sha1(info).hexdigest())


def verdict(seed, *findings):
    return {"seed": seed, "fault": "Cut", "injection": "", "findings": [{kind: "how"} for kind in findings],
            "unproven": False, "nodes": 2, "complete": 1, "seconds": 1.0}


class Injections(unittest.TestCase):
    def test_what_was_found_is_counted_once_an_injection(self):
        counted = injections.row([verdict(1), verdict(2, "false-success", "false-success"), verdict(3, "hang", "untrue")], 9, "1")
        self.assertEqual((counted["injections"], counted["false_successes"], counted["hangs"], counted["untrue_reasons"]),
                         (3, 1, 1, 1))
        self.assertFalse(counted["reached"])
        self.assertIn("2, 3", counted["note"])
        self.assertIn("NOT REACHED", report.table([counted]))

    def test_each_kind_of_fault_has_its_line(self):
        verdicts = [verdict(1), verdict(2, "hang"), verdict(3) | {"fault": "LostWrites", "unproven": True}]
        self.assertEqual(injections.by_kind(verdicts)["Cut"],
                         {"injections": 2, "nodes": 4, "complete": 2, "unproven": 0, "bad": 1})
        lines = injections.table(verdicts).splitlines()
        self.assertIn("| LostWrites | 1 | 2 | 1 | 1 | 0 |", lines)
        self.assertEqual(lines[-1], "| all | 3 | 6 | 3 | 1 | 1 |")

    def test_a_campaign_without_findings_reaches_its_goal(self):
        self.assertTrue(injections.row([verdict(1), verdict(2)], 9, "1")["reached"])


class Tool:
    def __init__(self, name):
        self.name = name

    def version(self):
        return "1"


class Fast(unittest.TestCase):
    def row(self, seconds, reached):
        runs = {"ka": Series([outcome(seconds)]), "mbuffer": Series([outcome(1.0)])}
        bench = type("Bench", (), {"rows": []})()
        fast.row(bench, "fast, random", Tool("ka"), Setting(1, 0, GIB), runs, "the goal", reached)
        return bench.rows[0]

    def test_a_row_is_measured_beside_mbuffer(self):
        row = self.row(1.25, lambda row: row["seconds"] <= 1.25)
        self.assertTrue(row["reached"])
        self.assertAlmostEqual(row["added_seconds"], 0.25)
        self.assertAlmostEqual(row["gbit_per_second"], GIB * 8e-9 / 1.25)
        self.assertIn("golden", report.table([row]).splitlines()[0])

    def test_a_run_that_failed_reaches_nothing(self):
        self.assertFalse(self.row(None, lambda row: True)["reached"])


class Reports(unittest.TestCase):
    def test_a_goal_that_was_missed_is_said(self):
        text = report.table([row(target="fast", reached=False, note="slow machine"), row(seconds=None, survivors_correct=None)])
        self.assertIn("NOT REACHED: fast", text)
        self.assertIn("slow machine", text)

    def test_the_verdict_names_what_was_reached_missed_and_wrong(self):
        text = report.verdict([row(case="kill", target="soon", reached=True, window="8M"),
                               row(case="cut", target="later", reached=False, window="8M", survivors_correct=False)])
        reached, rest = text.split("NOT REACHED:")
        missed, wrong = rest.split("COPY IS WRONG")
        self.assertIn("kill: soon", reached)
        self.assertIn("cut: later", missed)
        self.assertIn("cut ka", wrong)

    def test_the_plot_is_xml_with_a_line_for_each_tool(self):
        root = xml.etree.ElementTree.fromstring(report.plot({"ka": [(1, 1.0), (8, 1.1)], "a<b": [(8, 2.0)]}, 1.0))
        self.assertEqual(len(root.findall("{*}polyline")), 2)

    def test_the_quick_cases_exist(self):
        self.assertLessEqual(set(cases.QUICK), set(cases.CASES))


if __name__ == "__main__":
    unittest.main()
