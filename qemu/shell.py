"""Running the host's tools.

Every tool that the harness needs is called through here, so that a failure always
says which command failed and what it printed.
"""

import subprocess


class ToolFailed(Exception):
    """A command ended with a non-zero status; the text carries its output."""


def run(*command, input=None, env=None):
    """Run a command to its end and return its standard output as text."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, input=input, env=env, text=True, errors="surrogateescape",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
    )
    if done.returncode != 0:
        said = (done.stderr + done.stdout).strip()
        raise ToolFailed(f"`{' '.join(words)}` exited with {done.returncode}: {said}")
    return done.stdout
