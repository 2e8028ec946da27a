"""A process on a host: when it ended and how, the CPU time that it took, and its peak memory."""

import os
import signal
import subprocess
import threading
import time


class Process:
    """Started at once; one thread waits for its end, so that the time of it is exact."""

    def __init__(self, words, log, stdin=subprocess.DEVNULL):
        self.log = log
        self.ended = None
        self.status = None
        self.cpu_seconds = 0.0
        self.peak_rss = 0
        with open(log, "wb") as out:
            self._popen = subprocess.Popen(words, stdin=stdin, stdout=out, stderr=subprocess.STDOUT,
                                           start_new_session=True)
        self.pid = self._popen.pid
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        self._waiter.start()

    @property
    def ok(self):
        """Whether it has ended well."""
        return self.ended is not None and self.status == 0

    def note_memory(self):
        """Looks at VmHWM, the most memory that it ever had; asked now and then, for it is gone with the process."""
        try:
            with open(f"/proc/{self.pid}/status", encoding="utf-8") as lines:
                for line in lines:
                    if line.startswith("VmHWM:"):
                        self.peak_rss = max(self.peak_rss, int(line.split()[1]) * 1024)
        except (FileNotFoundError, ProcessLookupError):
            pass

    def signal(self, number):
        """Signals the process itself, not its children."""
        if self.ended is None:
            os.kill(self.pid, number)

    def stop(self, patience=5):
        """Ends it, with its children: with TERM, and then by force."""
        for number, wait in ((signal.SIGCONT, 0), (signal.SIGTERM, patience), (signal.SIGKILL, None)):
            if self.ended is None:
                try:
                    os.killpg(self.pid, number)
                except ProcessLookupError:
                    pass
                self._waiter.join(wait)

    def said(self):
        """The end of what it printed."""
        with open(self.log, encoding="utf-8", errors="replace") as text:
            return text.read()[-2000:].strip() or "(it printed nothing)"

    def _wait(self):
        # wait4, because only that tells the CPU time of this child alone; reaped grandchildren count in it.
        _, status, usage = os.wait4(self.pid, 0)
        now = time.monotonic()
        self.cpu_seconds = usage.ru_utime + usage.ru_stime
        self.status = self._popen.returncode = os.waitstatus_to_exitcode(status)
        self.ended = now
