# SPDX-License-Identifier: Apache-2.0
"""The programs of the guides do what they say.

Every ```python block is one; it prints the ```text block that follows it, and nothing else, with
either source of memory readings.
"""

import os
import re
import subprocess
import sys

import pytest

from conftest import ROOT

PROGRAM = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)


def programs_of(guide):
    text = (ROOT / "user" / "docs" / guide).read_text(encoding="utf-8")
    return [
        pytest.param(
            block.group(1), block.group(2), id=f"{guide}:{text.count(chr(10), 0, block.start()) + 2}"
        )
        for block in PROGRAM.finditer(text)
    ]


PROGRAMS = programs_of("guide-python.md") + programs_of("migration-resiliparse.md")


@pytest.mark.parametrize("memory", ["auto", "procfs"])
@pytest.mark.parametrize("source, prints", PROGRAMS)
def test_program_prints_what_the_guide_says(tmp_path, source, prints, memory):
    assert prints, "no ```text block says what it prints"
    program = tmp_path / "program.py"
    program.write_text(source, encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "PROCGUARD_SOURCE": memory},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, prints, "")


def test_programs_are_found():
    assert len(PROGRAMS) >= 6
