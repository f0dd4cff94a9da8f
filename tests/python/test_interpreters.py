# SPDX-License-Identifier: Apache-2.0
"""The same built package in every interpreter from 3.9 on that is installed with its headers."""

import concurrent.futures
import glob
import os
import subprocess

import pytest

from support import PATIENCE

OLDEST = (3, 9)
CANDIDATES = ["/usr/bin/python3", "/usr/bin/python3.*", "/usr/local/bin/python3.*"]
CANDIDATES += [os.path.expanduser("~/.pyenv/versions/*/bin/python3"), "/opt/python/*/bin/python3"]
FACTS = """
import os, sys, sysconfig
header = os.path.join(sysconfig.get_path("include"), "Python.h")
print(*sys.version_info[:3], sys.implementation.name, os.path.exists(header))
"""


def find_interpreters():
    """Version to path."""
    found = {}
    for path in sorted({path for pattern in CANDIDATES for path in glob.glob(pattern)}):
        asked = subprocess.run([path, "-c", FACTS], capture_output=True, text=True, timeout=PATIENCE)
        facts = asked.stdout.split()
        if asked.returncode != 0 or facts[3:] != ["cpython", "True"]:
            continue
        version = tuple(map(int, facts[:3]))
        if version >= OLDEST:
            found.setdefault(version, path)
    return found


INTERPRETERS = find_interpreters()


def test_there_is_one():
    print(*(".".join(map(str, version)) for version in INTERPRETERS))
    assert INTERPRETERS


@pytest.fixture(scope="module")
def smoke_tests():
    """Three at a time: most of their time is waiting."""
    program = os.path.join(os.path.dirname(__file__), "smoke.py")

    def run(version):
        return subprocess.run(
            [INTERPRETERS[version], "-B", program],
            capture_output=True,
            text=True,
            timeout=5 * PATIENCE,
        )

    with concurrent.futures.ThreadPoolExecutor(3) as executor:
        return {version: executor.submit(run, version) for version in INTERPRETERS}


@pytest.mark.parametrize("version", INTERPRETERS, ids=lambda v: ".".join(map(str, v)))
def test_smoke(version, smoke_tests):
    ended = smoke_tests[version].result()
    print(ended.stdout, ended.stderr)
    assert ended.returncode == 0
    assert ended.stdout.startswith("%d.%d " % version[:2]) and ended.stdout.endswith(" ok\n")
    assert ended.stderr == ""
