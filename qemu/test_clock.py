"""The clock of a machine stands still while the machine waits for a processor."""

import os
import subprocess
import time
import unittest

from clock import Clock

SPIN = "while True: pass"


class OwnTime(unittest.TestCase):
    def test_waiting_for_a_processor_does_not_count(self):
        # Two processes on one processor: each waits half of the time.
        one = min(os.sched_getaffinity(0))
        both = [subprocess.Popen(["taskset", "-c", str(one), "python3", "-c", SPIN]) for _ in range(2)]
        try:
            clock = Clock(both[0].pid)
            began, own = time.monotonic(), clock.now()
            while time.monotonic() - began < 1:
                time.sleep(0.05)
            passed, own = time.monotonic() - began, clock.now() - own
            self.assertLess(own, 0.8 * passed)
        finally:
            for process in both:
                process.kill()
                process.wait()

    def test_a_process_that_sleeps_has_the_time_of_everybody(self):
        process = subprocess.Popen(["sleep", "60"])
        try:
            clock = Clock(process.pid)
            own = clock.now()
            time.sleep(0.2)
            self.assertGreater(clock.now() - own, 0)
        finally:
            process.kill()
            process.wait()

    def test_an_ended_process_has_the_time_of_everybody(self):
        process = subprocess.Popen(["true"])
        process.wait()
        clock = Clock(process.pid)
        self.assertLessEqual(clock.now(), time.monotonic())


if __name__ == "__main__":
    unittest.main()
