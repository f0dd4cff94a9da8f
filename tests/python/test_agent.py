# SPDX-License-Identifier: Apache-2.0
"""Programs whose memory a real agent watches: with it, without privileges, and after it has gone."""

import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import tempfile

import pytest

from support import PATIENCE, run_python, start_python, wait_until
from test_memory import ALL

BINARY = pathlib.Path(os.environ["PROCGUARD_BUILD"]) / "procguard"


def has_agent():
    if not os.access(BINARY, os.X_OK):
        return False
    asked = subprocess.run([BINARY, "agent", "--help"], capture_output=True, check=False)
    return asked.returncode == 0


pytestmark = pytest.mark.skipif(not has_agent(), reason="needs `procguard agent`")


class Agent:
    """One of the tests' own: its socket and pins are nobody else's. The group nogroup may use it."""

    def __init__(self, directory):
        self.socket = os.path.join(directory, "agent.sock")
        self.pins = f"/sys/fs/bpf/procguard-test-{os.getpid()}-{os.path.basename(directory)}"
        self._process = None

    def _command(self, *more):
        return [
            BINARY, "agent", "--socket", self.socket, "--pin-dir", self.pins,
            "--socket-group", "nogroup", *more,
        ]  # fmt: skip

    def start(self):
        self._process = subprocess.Popen(
            self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self.answers)

    def answers(self):
        assert self._process.poll() is None, "the agent has ended"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
            return one.connect_ex(self.socket) == 0

    def end(self, number=signal.SIGTERM):
        self._process.send_signal(number)
        self._process.wait(PATIENCE)

    def tear_down(self):
        if self._process.poll() is None:
            self.end()
        subprocess.run(self._command("--teardown"), check=False, capture_output=True)

    def rows(self):
        """The guards that a list shows: (pid, tid) each."""
        header = struct.Struct("<IHHHHIII")  # magic version abi op flags count request size
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
            one.settimeout(PATIENCE)
            one.connect(self.socket)
            list_all = header.pack(0x70675031, 1, 2, 5, 0, 1, 1, 16) + struct.pack("<QII", 0, 0, 0)
            one.send(list_all)
            record = one.recv(1 << 16)
        count, size = header.unpack_from(record)[5], header.unpack_from(record)[7]
        bodies = [record[24 + i * size :][:size] for i in range(count)]
        return [struct.unpack_from("<II", body, 48) for body in bodies]


@pytest.fixture
def agent():
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        one = Agent(directory)
        one.start()
        yield one
        one.tear_down()


def variables(agent, source="auto"):
    return {"PROCGUARD_SOCKET": agent.socket, "PROCGUARD_SOURCE": source}


def test_memory_guards_by_the_agent(agent):
    ended = run_python(ALL, env=variables(agent, "agent"))
    assert ended.out.split() == ["agent", "agent"]
    assert ended.err == ""


NOBODYS = """
import time
from procguard import *
kept = []
try:
    with mem_guard(32 * 1024, absolute=False, check_interval=3_600_000):
        print(source())
        end = time.monotonic() + 30
        while time.monotonic() < end and len(kept) < 4000:
            kept.append(bytearray(1 << 20))
            time.sleep(0.001)
except MemoryLimitExceeded as error:
    print("memory", error.observed >= 32 * 1024, len(kept) < 2000)
"""


def test_without_privileges(agent):
    """Nobody's program needs none: it only may open the socket."""

    def become_nobody():
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

    with tempfile.TemporaryDirectory() as top:  # what is imported has to be readable to him
        os.chmod(top, 0o755)
        package = pathlib.Path(os.environ["PYTHONPATH"]) / "procguard"
        shutil.copytree(package, os.path.join(top, "procguard"))
        ended = subprocess.run(
            ["/usr/bin/python3", "-c", NOBODYS],
            preexec_fn=become_nobody,
            cwd="/",
            env={**os.environ, **variables(agent), "PYTHONPATH": top},
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
        )
    assert ended.stdout == "agent\nmemory True True\n", ended
    assert ended.stderr == ""


def test_forked_children_have_sessions_of_their_own(agent):
    ended = run_python(
        """
        import test_memory
        with mem_guard(64 << 20):
            print(source(), flush=True)
            child = os.fork()
            if child == 0:
                test_memory.a_plateau_does_not()
                print(source(), flush=True)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            test_memory.a_plateau_does_not()
            print(source(), flush=True)
        """,
        env=variables(agent),
    )
    assert ended.out.split() == ["agent"] * 3
    assert ended.err == ""


LOSES_IT = """
import procguard
def wait_for_source(wanted):
    wait_until(lambda: wanted == (source() == "agent"))
    print(source() == "agent", flush=True)
guard = mem_guard(32 * KIB, absolute=False, grace_period_ms=int(sys.argv[1]),
                  interrupt_type=InterruptType.exception, check_interval=10)
caught = False
try:
    with guard:
        wait_for_source(True)
        memory = grow(64 * MIB)
        begin = time.monotonic()
        wait_for_source(False)
        spin()
except MemoryLimitExceeded:
    caught = True
assert caught and time.monotonic() - begin >= int(sys.argv[1]) / 1000 - 0.5
memory.close()
with guard:
    wait_for_source(True)
    try:
        memory = grow(64 * MIB)
        spin()
    except MemoryLimitExceeded:
        print("again", source())
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_during_the_grace_and_comes_back(agent, how):
    program = start_python(LOSES_IT, 3000, env=variables(agent))
    try:
        assert program.stdout.readline() == "True\n"
        agent.end(how)
        assert program.stdout.readline() == "False\n"
        agent.start()
        out, err = program.communicate(timeout=2 * PATIENCE)
    finally:
        program.kill()
        program.communicate()
    assert (out, err, program.returncode) == ("True\nagain agent\n", "", 0)


def test_it_knows_the_guards_of_a_program(agent):
    program = start_python(
        """
        with mem_guard(64 << 20), time_guard(timeout=3600):
            print(threading.get_native_id(), flush=True)
            time.sleep(3600)
        """,
        env=variables(agent),
    )
    try:
        tid = int(program.stdout.readline())
        assert agent.rows() == [(program.pid, tid)] * 2
    finally:
        program.kill()
        program.communicate()
    wait_until(lambda: agent.rows() == [])
