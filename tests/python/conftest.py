# SPDX-License-Identifier: Apache-2.0
"""The package under test is the one that was just built: PROCGUARD_BUILD says where."""

import os
import pathlib
import signal
import sys

import pytest

import support

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.setdefault("PROCGUARD_BUILD", str(ROOT / "build")))
PACKAGE_DIR = BUILD / "python"
sys.path.insert(0, str(PACKAGE_DIR))
os.environ["PYTHONPATH"] = str(PACKAGE_DIR)
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
sys.dont_write_bytecode = True
# A shell that starts the tests in the background hands SIGINT down as ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def native_call(tmp_path_factory):
    support.build_hold(tmp_path_factory.mktemp("hold"))


@pytest.fixture(autouse=True)
def same_signal_handlers():
    """What a test does to SIGINT and SIGTERM ends with it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def short_switches():
    """Threads take turns fast: many of them get somewhere in a short time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-4)
    yield
    sys.setswitchinterval(before)
