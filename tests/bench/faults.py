"""What happens to the hosts in mid-transfer."""

import signal
from dataclasses import dataclass

from shell import run


@dataclass
class Fault:
    """A disturbance: whom it strikes, what is to be reported, and who loses its predecessor by it."""

    victims: tuple
    strike_one: object
    at: float = 0.4
    orphan: int | None = None
    reported: tuple = ()
    # The disturbance ends when the survivors are complete, and then so long is waited for the victims.
    heals: float | None = None

    def prepare(self, hosts, job):
        """Before the transfer."""

    def strike(self, hosts, flow):
        """Now, at this share of the bytes."""
        for victim in self.victims:
            process = next(r.process for r in flow.receivers if r.host == victim)
            self.strike_one(hosts, victim, process)

    def undo(self, hosts):
        """So that the hosts can be used again."""
        for victim in self.victims:
            hosts.mend(victim)
            hosts.set_rate(victim, hosts.rate_mbit)


class FullDisk(Fault):
    """A writer that fails: the victim's sink is on a file system with too little room."""

    def prepare(self, hosts, job):
        self._at = job.scratch / "small"
        self._at.mkdir(exist_ok=True)
        room = int(job.bytes * self.at)
        run("mount", "-t", "tmpfs", "-o", f"size={room}", "ka-bench", self._at)
        for victim in self.victims:
            job.sinks[victim] = self._at / "copy"

    def strike(self, hosts, flow):
        pass

    def undo(self, hosts):
        super().undo(hosts)
        run("umount", "--lazy", self._at)


def kill(nodes):
    """One process of the middle dies by SIGKILL: its host resets the connections."""
    victim = nodes // 2
    return Fault((victim,), lambda _, __, p: p.signal(signal.SIGKILL), orphan=victim + 1, reported=(victim,))


def cut(nodes):
    """One host's link goes away, silently."""
    victim = nodes // 2
    return Fault((victim,), lambda hosts, v, _: hosts.cut(v), orphan=victim + 1, reported=(victim,))


def stop(nodes):
    """One process hangs: SIGSTOP."""
    victim = nodes // 2
    return Fault((victim,), lambda _, __, p: p.signal(signal.SIGSTOP), orphan=victim + 1, reported=(victim,))


def cut2(nodes):
    """Two neighbours lose their links at once."""
    first = nodes // 2
    return Fault((first, first + 1), lambda hosts, v, _: hosts.cut(v), orphan=first + 2, reported=(first, first + 1))


def writer(nodes):
    """One host's disk is full in mid-transfer."""
    victim = nodes // 2
    return FullDisk((victim,), None, reported=(victim,))


def slow(nodes):
    """One host's link falls to a twentieth of its rate, and is repaired when all others are complete: then the
    host is served in the next round."""
    victim = nodes // 2
    return Fault((victim,), lambda hosts, v, _: hosts.set_rate(v, hosts.rate_mbit / 20), at=0.2, heals=60.0)
