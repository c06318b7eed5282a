"""Programs that were started end with the one that started them, and so does what they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tessera.common.processes import started

SLEEPERS = (
    "import subprocess, sys; subprocess.Popen(['sleep', '100']); print('up', flush=True); import time; time.sleep(100)"
)

ENDED = """
import signal, sys, tempfile
from concurrent.futures import ThreadPoolExecutor
from tessera.common.processes import end_on_signals, started
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have it ignored, as nohup does
end_on_signals()
def one(number):
    with started(["sleep", "100"]) as process:
        print(f"{process.pid}\\n", end="", flush=True)  # in one piece: two threads print
        process.wait()
with tempfile.TemporaryDirectory(dir=sys.argv[1]), ThreadPoolExecutor(2) as pool:
    list(pool.map(one, range(6)))
"""


def gone(pid: int) -> bool:
    """Whether no process has this number any more, or will not soon."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_an_exception_ends_the_whole_session() -> None:
    command = [sys.executable, "-c", SLEEPERS]
    with pytest.raises(KeyError), started(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        session = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and os.getsid(int(pid)) == process.pid]
        assert len(session) == 2
        raise KeyError
    assert all(gone(pid) for pid in session)


def test_what_ends_by_itself_keeps_its_status() -> None:
    with started([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        assert process.wait() == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_what_threads_wait_for_and_removes_folders(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", ENDED, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    children = [int(process.stdout.readline()) for _ in range(2)]
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(number)
    output, message = process.communicate(timeout=60)
    assert process.returncode == 128 + number and message == f"tessera: ended by {number.name}\n"
    assert output == "" and all(gone(pid) for pid in children) and not list(tmp_path.iterdir())


def test_an_ignored_signal_stays_ignored() -> None:
    program = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from tessera.common.processes import end_on_signals
end_on_signals()
print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, callable(signal.getsignal(signal.SIGTERM)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "True True\n", done.stderr
