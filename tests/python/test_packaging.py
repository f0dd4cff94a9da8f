# SPDX-License-Identifier: Apache-2.0
"""pip install --no-build-isolation, off-line, into a venv that sees the system's packages."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from conftest import BUILD, ROOT
from support import PATIENCE

SEEN = """
import importlib.metadata, os, procguard, sys
from procguard import ExecutionTimeout, time_guard
try:
    with time_guard(timeout_ms=10):
        import time
        time.sleep(10)
except ExecutionTimeout:
    print(importlib.metadata.version("procguard"), os.path.dirname(procguard.__file__))
"""


def run(*command, **kwargs):
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=10 * PATIENCE, cwd="/", **kwargs
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def environment():
    """No packages of the tests, no network."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**env, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The sources, and what was built of them: the work tree stays as it is."""
    top = tmp_path_factory.mktemp("tree")
    for name in ("Makefile", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, top)
    for name in ("bpf", "user", "vmlinux"):
        shutil.copytree(ROOT / name, top / name, ignore=shutil.ignore_patterns("__pycache__"))
    # cp keeps the times of last change, so nothing is built anew.
    subprocess.run(["cp", "-a", "--reflink=auto", "--parents", *needed(), top], cwd=ROOT, check=True)
    return top


def needed():
    """What make python needs of the build directory."""
    build = BUILD.relative_to(ROOT)
    return [build / "obj" / "user", build / "gen", build / "python", *libraries(build)]


def libraries(build):
    return [path.relative_to(ROOT) for path in (ROOT / build).glob("*.a")]


@pytest.fixture(scope="module")
def wheel(copy):
    out = copy / "wheels"
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", out]
    run(*pip, copy / "user" / "python", env=environment())
    (path,) = pathlib.Path(out).glob("*.whl")
    return path


def test_what_is_in_the_wheel(wheel):
    assert "-cp39-abi3-linux_" in wheel.name
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {path.name for path in (ROOT / "user" / "python" / "procguard").iterdir()}
    wanted = {f"procguard/{name}" for name in package if not name.startswith("__pycache__")}
    assert wanted | {"procguard/_native.abi3.so"} == {
        name for name in names if name.startswith("procguard/")
    }
    text = zipfile.ZipFile(wheel).read(next(n for n in names if n.endswith("/METADATA"))).decode()
    assert "\nRequires-Python: >=3.9\n" in text
    assert "\nLicense: Apache-2.0\n" in text or "\nLicense-Expression: Apache-2.0\n" in text


def test_install_into_a_venv(copy, tmp_path):
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--system-site-packages", venv)
    python = venv / "bin" / "python"
    pip = [python, "-m", "pip", "install", "-q", "--no-build-isolation"]
    run(*pip, copy / "user" / "python", env=environment())
    version, place = run(python, "-c", SEEN, env=environment()).split()
    makefile = (ROOT / "Makefile").read_text()
    assert f"\nVERSION := {version}\n" in makefile
    assert pathlib.Path(place).is_relative_to(venv)
    run(python, "-m", "pip", "uninstall", "-q", "-y", "procguard", env=environment())
