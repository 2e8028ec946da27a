"""Is this tree the same as that one? Two manifests compared, apart from named exceptions.

An exception is a line `PATH [MARK] REASON` of a committed list: exact paths only, few,
and each with its reason. The mark says what may differ, and no more than that:

    [content]  the file's bytes, size, holes and mtime; it must be there
    [tree]     the folder's mtime, and whatever lies below it; it must be there
    [missing]  either side may lack it
    [value]    both must have it and their contents must differ: an identity

In a path, `${KERNEL}` stands for the version of the one installed kernel.
"""

from dataclasses import dataclass
from pathlib import Path

from manifest import without

MOST = 15
MARKS = ("[content]", "[tree]", "[missing]", "[value]")
CONTENT = {"size", "sha256", "data", "mtime"}
INCOMPRESSIBLE = 0x400  # chattr(1): m; a btrfs with `compress=` gives it to what did not become smaller


class BadExceptions(Exception):
    """The list of exceptions is not acceptable; the text says which line and why."""


@dataclass(frozen=True)
class Exemption:
    """One path that may differ, in one way, for one reason."""

    path: str
    mark: str
    reason: str


def compare(expected, found, exemptions=()):
    """All differences between two manifests, each a line that names its path."""
    by_path = {exemption.path: exemption.mark for exemption in exemptions}
    trees = [path + "/" for path, mark in by_path.items() if mark == "[tree]"]
    differences = []
    for path in sorted(expected.keys() | found.keys()):
        mark = by_path.get(path)
        if any(path.startswith(tree) for tree in trees):
            continue
        if path not in found:
            if mark != "[missing]":
                differences.append(f"{show(path)}: missing")
        elif path not in expected:
            if mark != "[missing]":
                differences.append(f"{show(path)}: should not be there")
        else:
            differences += differing_facts(path, expected[path], found[path], mark)
    return differences


def differing_facts(path, expected, found, mark):
    """How one path differs from what it should be."""
    allowed = CONTENT if mark in ("[content]", "[value]") else {"mtime"} if mark == "[tree]" else set()
    differences = [
        f"{show(path)}: {fact} is {show(found.get(fact))}, expected {show(expected.get(fact))}"
        for fact in sorted(expected.keys() | found.keys())
        if fact not in allowed and fact != "preallocated" and not same_fact(fact, expected, found)
    ]
    if mark == "[value]" and expected.get("sha256") == found.get("sha256"):
        differences.append(f"{show(path)}: has the other machine's content, expected one of its own")
    return differences


def same_fact(fact, expected, found):
    """Is a fact the same? What is preallocated reads as zeros: a copy may have data there, or a hole."""
    one, other = expected.get(fact), found.get(fact)
    if fact == "flags":
        # The kernel decides file by file; what the golden node has of it is asked for like any flag.
        return one == other or int(other or "0", 16) == int(one or "0", 16) | INCOMPRESSIBLE
    room = expected.get("preallocated")
    if fact == "data" and room and one is not None and other is not None:
        one, other = without(one, room), without(other, room)
    return one == other


def show(value):
    """A fact or a path on one line, however odd; long ones are cut."""
    text = value if isinstance(value, str) and value.isprintable() else ascii(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text)} characters)"


def load_exemptions(path, kernel):
    """Read a list of exceptions; refuse what would make the check worth less."""
    found = []
    for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split(maxsplit=2)

        def refuse(why):
            raise BadExceptions(f"{path}:{number}: {why}")

        if not line.startswith("/"):
            refuse("expected an absolute path")
        if any(character in words[0] for character in "*?["):
            refuse("expected an exact path, not a pattern")
        if len(words) < 2 or words[1] not in MARKS:
            refuse(f"expected one of {' '.join(MARKS)} after the path")
        if len(words) < 3:
            refuse("expected a reason after the mark")
        if words[1] == "[tree]" and words[0].count("/") < 2:
            refuse("a whole top folder is too much to leave out")
        found.append(Exemption(words[0].replace("${KERNEL}", kernel), words[1], words[2]))
    if len(found) > MOST:
        raise BadExceptions(f"{path}: {len(found)} exceptions, at most {MOST} are allowed")
    paths = [exemption.path for exemption in found]
    if len(set(paths)) != len(paths):
        raise BadExceptions(f"{path}: a path is listed twice")
    return found


def load_all(paths, kernel):
    """Several lists as one, each under the same rules."""
    found = [exemption for path in paths for exemption in load_exemptions(path, kernel)]
    if len({exemption.path for exemption in found}) != len(found):
        raise BadExceptions(f"{paths[-1]}: lists a path that the general list has too")
    return found


def unneeded(expected, found, exemptions):
    """Exceptions without which the trees would compare equally well: candidates to drop."""
    return [
        exemption for exemption in exemptions
        if len(compare(expected, found, [other for other in exemptions if other != exemption]))
        == len(compare(expected, found, exemptions))
    ]
