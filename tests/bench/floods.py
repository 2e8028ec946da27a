"""What a hostile host does while honest ones receive: each flood goes on from its start until the honest ones are done."""

from process import Process

CONTROL, DATA, DISCOVERY = 30765, 30764, 4957


class Flood:
    """A host beside the receivers floods the golden node, or a receiver, from a share of the bytes on."""

    victims = ()
    reported = ()
    orphan = None
    heals = None
    # A host that has joined and answers is served in a round of its own, which ends without it. No honest host waits.
    report_within = 60

    def __init__(self, program, key, *words, at=0.05, port=CONTROL, target=0):
        self._program, self._key, self._words = program, key, words
        self.at, self._port, self._target = at, port, target
        self._process = None

    def prepare(self, hosts, job):
        """Before the transfer: it must be known where what the flood says goes."""
        self._log = job.scratch / "flood.log"

    def strike(self, hosts, flow):
        """Now."""
        what, *more = (str(self._key) if word == "KEY" else word for word in self._words)
        address = f"{hosts.address(self._target)}:{self._port}"
        self._process = Process(hosts.inside(hosts.hostile, self._program, what, address, *more), self._log)

    def undo(self, hosts):
        """The flood ends."""
        if self._process:
            if self._process.ended:
                # A flood that ended by itself has proven nothing.
                raise RuntimeError(f"the flood has ended: {self._process.said()}")
            self._process.stop()
            self._process = None


class Member(Flood):
    """A hostile host that takes part: it joins before the honest ones, and is first in the chain. It ends by itself."""

    def __init__(self, program, key, what):
        super().__init__(program, key, what, "KEY", "bench", "52:54:00:00:00:66", at=0.0)

    def prepare(self, hosts, job):
        """It waits for the session, as receivers do."""
        super().prepare(hosts, job)
        (job.scratch / "order").write_text("52:54:00:00:00:66\n")

    def strike(self, hosts, flow):
        """It is there already."""

    def join(self, hosts):
        """When the golden node listens."""
        super().strike(hosts, None)

    def undo(self, hosts):
        """Whatever is left of it."""
        if self._process:
            self._process.stop()
            self._process = None


# What each is called, with the words of `hostile`, and where it goes if not to the controller's port.
FLOODS = {
    "held control connections": (("hold",), {}),
    "held data connections, golden node": (("hold",), {"port": DATA}),
    "held data connections, first node": (("hold",), {"port": DATA, "target": 1}),
    "replayed handshakes": (("replay", "KEY"), {}),
    "forged discoveries": (("discover",), {"port": DISCOVERY}),
    "large inventories": (("inventories", "KEY", "bench"), {}),
    "identities that never answer": (("silent", "KEY", "bench"), {}),
    "repeated hello": (("hellos", "KEY", "bench"), {}),
    "invented logs": (("logs", "KEY", "bench"), {}),
    "endless steps": (("steps", "KEY", "bench"), {}),
}
MEMBERS = {"accusing relay": "accuse", "forging relay": "forge"}
