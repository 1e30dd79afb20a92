"""Processes of ours: those that outlive whoever started them, and how they are ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from core.settings import settings

ROOT = Path(__file__).resolve().parent.parent


def detached(
    command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a process that lives on when this one ends; its output goes to a file."""
    options: dict[str, bool | int] = (
        {"creationflags": 0x00000008 | 0x00000200}  # DETACHED_PROCESS, CREATE_NEW_PROCESS_GROUP
        if sys.platform == "win32"
        else {"start_new_session": True}
    )
    with log.open("ab") as output:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env={**os.environ, "HEADSTART_HOME": str(settings().home), **environment},
            **options,  # type: ignore[call-overload]
        )
    return process


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
