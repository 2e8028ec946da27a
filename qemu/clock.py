"""A machine's own time: the time in which the processor was free for it.

A busy host lets a virtual machine wait for its turn. The kernel counts that for each thread (the second number of
/proc/PID/task/TID/schedstat, in nanoseconds; see proc_pid_schedstat in Documentation/scheduler/sched-stats.rst), so a limit
on this clock finds a machine that hangs, and never one that waits.
"""

import pathlib
import time


class Clock:
    """Seconds in which none of the process's threads had to wait for a processor."""

    def __init__(self, pid):
        self._tasks = pathlib.Path("/proc", str(pid), "task")
        self._delay = 0

    def now(self):
        self._delay = max([self._delay, *self._delays()])
        return time.monotonic() - self._delay / 1e9

    def _delays(self):
        for task in self._tasks.glob("*/schedstat"):
            try:
                yield int(task.read_text().split()[1])
            except (OSError, IndexError):
                pass  # the thread has ended
