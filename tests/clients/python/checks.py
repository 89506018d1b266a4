"""Runs named checks one after the other; one that fails does not stop the others.

Prints `ok <name>`, `FAIL <name>: <why>` or `skip <name>: <why>` for each, which `cargo xtask clients` counts.
"""

import os
import sys
import traceback

HOST = "127.0.0.1"
PORT = int(os.environ["MOON_CLIENTS_PORT"])
URL = f"redis://{HOST}:{PORT}/0"

_checks = []


class NotFor(Exception):
    """The library does not try this with a server of this version."""


def check(function):
    _checks.append(function)
    return function


def report(name, outcome):
    print(f"ok {name}" if outcome is None else f"FAIL {name}: {outcome}", flush=True)


def why(error):
    text = " ".join(str(error).split()) or traceback.format_exc(limit=-1).splitlines()[-1]
    return f"{type(error).__name__}: {text[:160]}"


def run(call):
    """Runs every check through `call`, which takes the function and runs it to its end."""
    failed = 0
    for function in _checks:
        try:
            call(function)
        except NotFor as reason:
            print(f"skip {function.__name__}: {reason}", flush=True)
        except Exception as error:  # a check may fail in any way
            failed += 1
            report(function.__name__, why(error))
        else:
            report(function.__name__, None)
    sys.exit(1 if failed else 0)


def expect(actual, expected):
    if actual != expected:
        raise AssertionError(f"{actual!r} instead of {expected!r}")
