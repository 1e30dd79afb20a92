"""Processes of ours: those that outlive whoever started them, and how they are ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from core.settings import settings

ROOT = Path(__file__).resolve().parent.parent
# On Windows whoever starts a process waits so long for it to take its own lock.
SECONDS_TO_START = 10.0


def detached(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    inherited: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start a process that lives on when this one ends; its output goes to a file.

    inherited: file descriptors that stay open in it (POSIX).
    """
    options: dict[str, Any] = (
        {"creationflags": 0x00000008 | 0x00000200}  # DETACHED_PROCESS, CREATE_NEW_PROCESS_GROUP
        if sys.platform == "win32"
        else {"start_new_session": True, "pass_fds": inherited}
    )
    with log.open("ab") as output:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env={**os.environ, "HEADSTART_HOME": str(settings().home), **environment},
            **options,
        )
    return process


def start_once(command: Sequence[str], log: Path, lock: Path) -> subprocess.Popen[bytes] | None:
    """Start a process that holds a lock from its first moment on; None if another one does.

    The child inherits the locked file, and the kernel frees the lock when the child dies, however
    long it takes to begin its work: no clock decides whether one is still starting.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    if (
        sys.platform == "win32"
    ):  # There a lock cannot be inherited; whoever starts holds it a while.
        with contextlib.suppress(Timeout), FileLock(lock, timeout=0):
            process = detached(command, log, {})
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS_TO_START)
            return process
        return None
    import fcntl

    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return None
        return detached(command, log, {}, inherited=(file.fileno(),))


def kill_with_children(pid: int) -> None:
    """End a process and all that it started, at once and unasked; what is gone already stays so."""
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        process = psutil.Process(pid)
        for one in process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        if sys.platform != "win32" and os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)  # One call: nothing can be started meanwhile.
        process.kill()
