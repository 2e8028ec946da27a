"""Running the host's tools, so that a failure always says which command failed and what it printed."""

import shutil
import subprocess


class Trouble(Exception):
    """The bench itself cannot go on: a tool is missing, or a command failed."""


def run(*command, input=None):
    """Run a command to its end and return its standard output as text."""
    words = [str(word) for word in command]
    done = subprocess.run(words, input=input, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise Trouble(f"`{' '.join(words)}` exited with {done.returncode}: {(done.stderr + done.stdout).strip()}")
    return done.stdout


def need(*tools):
    """Fail loudly, with all their names, when tools are missing."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        raise Trouble(f"not installed: {', '.join(missing)}; `make bench` installs them")


def package(name):
    """The version of a Debian package, for the record."""
    return run("dpkg-query", "-W", "-f", "${Version}", name).strip()
