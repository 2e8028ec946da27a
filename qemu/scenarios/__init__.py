"""The scenarios by name. Each is a module here with a `SCENARIO`; `make qemu-test SCENARIO=…` runs one."""

import importlib
import pkgutil
from dataclasses import replace


def names():
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name):
    """The scenario of this name, with its module as its hooks."""
    if name not in names():
        raise SystemExit(f"there is no scenario {name}; there are {' '.join(names())}")
    module = importlib.import_module(f"scenarios.{name}")
    return replace(module.SCENARIO, hooks=module)
