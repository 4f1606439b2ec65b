"""One file a topic. A case is a function of the lab that returns its figures as text or raises."""

from dataclasses import dataclass
from typing import Callable

CASES = []


class Failed(Exception):
    """What was expected did not happen."""


@dataclass
class Case:
    name: str
    about: str
    run: Callable
    direct: bool


def case(name, direct=False):
    """Registers a case; `direct` cases are the self-checks without a gateway."""
    def register(function):
        CASES.append(Case(name, (function.__doc__ or "").strip().splitlines()[0], function, direct))
        return function
    return register


def check(true, what):
    if not true:
        raise Failed(what)


def same(got, expected, what):
    if got != expected:
        raise Failed(f"{what}: {got!r}, expected {expected!r}")
