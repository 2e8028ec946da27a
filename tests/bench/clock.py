"""The clock, the same one for every tool: it looks at the switch's ports, not at what a tool says.

It starts with the first data byte: when the golden node's port has carried 64 KiB within 10 ms, which only data does,
it looks for the last time in these 10 ms at which it had carried no more than a few greetings. It stops when the last
receiver has confirmed that it is complete: see `flow.py`.
"""

import threading
import time
from collections import deque

DATA, WITHIN = 64 * 1024, 0.010
# What a golden node may say in these 10 ms before its data.
GREETINGS = 4 * 1024
FINE, COARSE = 0.001, 0.010
# A port that carries less than this in a COARSE interval carries pings and acks, and no data.
ACTIVE = 8 * 1024


class Clock:
    """Samples the ports from its making, which is before anybody sends, until it is closed."""

    def __init__(self, hosts, watched=None):
        self._hosts, self._watched = hosts, watched
        # Whose memory is noted.
        self.processes = []
        self.began = None
        self.sent = 0
        self._base = hosts.counters()[0][0]
        self._recent = deque([(time.monotonic(), 0)])
        self._actives = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self):
        """No more samples."""
        self._over.set()
        self._thread.join()

    def longest_gap(self, after):
        """The longest time, after an instant, in which the watched host received no data, in seconds."""
        times = [after] + [t for t in self._actives if t >= after]
        return max((b - a for a, b in zip(times, times[1:])), default=None)

    def _look_for_data(self, now):
        """Starts the clock once data flows."""
        recent = self._recent
        recent.append((now, self.sent))
        while now - recent[0][0] > WITHIN and len(recent) > 2:
            recent.popleft()
        before = recent[0][1]
        if self.sent - before >= DATA:
            self.began = max(at for at, sent in recent if sent - before <= GREETINGS)

    def _run(self):
        watched_before, memory_at = 0, 0.0
        while not self._over.wait(FINE if self.began is None else COARSE):
            counters, now = self._hosts.counters(), time.monotonic()
            self.sent = counters[0][0] - self._base
            if self.began is None:
                self._look_for_data(now)
            if self._watched is not None:
                got = counters[self._watched][1]
                if got - watched_before >= ACTIVE:
                    self._actives.append(now)
                watched_before = got
            if now - memory_at > 0.1:
                memory_at = now
                for process in self.processes:
                    process.note_memory()
