# SPDX-License-Identifier: Apache-2.0
"""pip's way to the package: the Makefile builds the native module, this puts it into a wheel."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

try:
    from wheel.bdist_wheel import bdist_wheel
except ImportError:  # newer setuptools have their own
    from setuptools.command.bdist_wheel import bdist_wheel

HERE = pathlib.Path(__file__).resolve().parent
# Where the sources are: pip may build in a copy of this directory alone.
ROOT = pathlib.Path(os.environ.get("PROCGUARD_ROOT", HERE.parents[1]))
OLDEST = "3.9"  # the stable ABI that the module is built against: python/native/py.h
ABI = "cp39"


def version():
    return re.search(r"^VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]


class Make(build_ext):
    """build_ext that calls make."""

    def build_extension(self, extension):
        make = ["make", "-s", "-C", str(ROOT), f"PYTHON={sys.executable}", "python"]
        # Of a make around this one only its jobs would be left, and they are not ours.
        env = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
        subprocess.run(make, check=True, env=env)
        target = pathlib.Path(self.get_ext_fullpath(extension.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / "build" / "python" / "procguard" / "_native.abi3.so", target)


class Wheel(bdist_wheel):
    def finalize_options(self):
        self.py_limited_api = ABI
        super().finalize_options()


setup(
    name="procguard",
    version=version(),
    description="Process guards: time and memory limits for blocks of code, functions, coroutines",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    platforms=["Linux"],
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: C++",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: Implementation :: CPython",
        "Typing :: Typed",
    ],
    python_requires=">=" + OLDEST,
    packages=["procguard"],
    package_data={"procguard": ["py.typed", "*.pyi"]},
    include_package_data=False,
    ext_modules=[Extension("procguard._native", sources=[], py_limited_api=True)],
    cmdclass={"build_ext": Make, "bdist_wheel": Wheel},
    zip_safe=False,
)
