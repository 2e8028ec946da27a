"""What the harness tells: steps with their time as they go, then a table and a verdict."""

import contextlib
import threading
import time

# A person takes a longer silence for a hang.
STILL_EVERY = 30


class Report:
    """Collects what was found; the run fails if anything was."""

    def __init__(self):
        self._began = time.monotonic()
        self.faults = []
        self.rows = {}
        self.figures = []

    @contextlib.contextmanager
    def step(self, name):
        """A named piece of work: printed when it starts and when it ends, with the time."""
        began = time.monotonic()
        known = len(self.faults)
        self._say(f"{name} …")
        try:
            with self._still(name, began):
                yield
        except BaseException as error:
            self._say(f"{name}: FAILED after {time.monotonic() - began:.1f} s ({type(error).__name__})")
            raise
        verdict = "ok" if len(self.faults) == known else "FAILED"
        self._say(f"{name}: {verdict}, {time.monotonic() - began:.1f} s")

    @contextlib.contextmanager
    def _still(self, name, began):
        """Prints from time to time that the step goes on."""
        over = threading.Event()

        def tell():
            while not over.wait(STILL_EVERY):
                self._say(f"{name}: still at it after {time.monotonic() - began:.0f} s")

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        try:
            yield
        finally:
            over.set()
            teller.join()

    def note(self, text):
        self._say(f"  {text}")

    def figure(self, name, value):
        """A measurement for the end of the report."""
        self.figures.append((name, value))

    def found(self, who, what, faults):
        """Record the faults of one check, and its cell of the table. Returns if there were none."""
        for fault in faults:
            self.faults.append(f"{who}: {what}: {fault}")
        for fault in faults[:20]:
            self._say(f"  {who}: {what}: {fault}")
        if len(faults) > 20:
            self._say(f"  {who}: {what}: … and {len(faults) - 20} more")
        self.cell(who, what, "ok" if not faults else f"{len(faults)} wrong")
        return not faults

    def cell(self, row, column, text):
        self.rows.setdefault(row, {})[column] = text

    def finish(self):
        """Print the table and the verdict; returns the exit status."""
        self._print_table()
        for name, value in self.figures:
            print(f"{name}: {value}")
        elapsed = time.monotonic() - self._began
        if self.faults:
            print(f"\nqemu-test: FAILED after {elapsed:.0f} s, {len(self.faults)} faults:")
            for fault in self.faults[:50]:
                print(f"  {fault}")
            return 1
        print(f"\nqemu-test: {self._right()}, in {elapsed:.0f} s")
        return 0

    def _right(self):
        """The verdict of a trial without a fault."""
        clones = [cells for cells in self.rows.values() if "disk" in cells]
        if not clones:
            return "OK"
        return f"OK: {len(clones)} of {len(clones)} {'clone is' if len(clones) == 1 else 'clones are'} right"

    def _print_table(self):
        """A table of the nodes; what is not about a node is told in a line."""
        nodes = {row: cells for row, cells in self.rows.items() if "disk" in cells}
        columns = list(dict.fromkeys(column for cells in nodes.values() for column in cells))
        table = [["node", *columns]] + [[row, *(cells.get(column, "-") for column in columns)] for row, cells in nodes.items()]
        widths = [max(map(len, column)) for column in zip(*table)]
        print()
        for line in table:
            print("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip())
        print()
        for row in (row for row in self.rows if row not in nodes):
            print(f"{row}: " + ", ".join(f"{what} {text}" for what, text in self.rows[row].items()))

    def _say(self, text):
        print(f"[{time.monotonic() - self._began:6.1f} s] {text}", flush=True)
