"""What this machine is and how to get the most from it; no torch, so that anyone may ask."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import signal
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import numpy
    import pandas

    late_numpy, late_pandas = numpy, pandas
else:

    class Late(ModuleType):
        """A library that is imported when something of it is first used."""

        def __getattr__(self, name: str) -> object:
            """What the library has under this name."""
            return getattr(import_module(self.__name__), name)

    # Half a second that a list of runs, a help text or a supervisor never needs.
    late_numpy, late_pandas = Late("numpy"), Late("pandas")

# glibc's names for the two thresholds (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# Linux's number of it (prctl(2)).
PR_SET_PDEATHSIG = 1


def share_cores() -> None:
    """Let torch's waiting threads sleep instead of spin; to be called before torch is loaded.

    Measured with other work on the same two cores: 1.3 times the training rate and 1 to 3 times
    that of frozen forwards.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def keep_heap() -> None:
    """Keep freed memory in this process instead of giving it back to the kernel at every step.

    On glibc this doubles the speed of training on a processor: big blocks are otherwise faulted
    in again in each step. Elsewhere there is no such function, and nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def cores() -> int:
    """Physical processor cores that this process may use: hyper-threads slow convolutions down."""
    return max(1, min(psutil.cpu_count(logical=False) or 1, processors()))


def processors() -> int:
    """Processors that this process may use, hyper-threads among them: decoding gains by them."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return usable or 1


def peak_memory_mb() -> float:
    """The most memory this process has used so far, in megabytes (10^6 bytes)."""
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 1e6
    with contextlib.suppress(OSError, StopIteration):
        # What getrusage calls the peak is, in a young process, that of the one which started it.
        with Path("/proc/self/status").open() as status:
            line = next(one for one in status if one.startswith("VmHWM:"))
        return float(line.split()[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / 1e6 if sys.platform == "darwin" else float(peak) * 1024 / 1e6


def die_with_parent() -> None:
    """End this process when the one that started it dies, where the system can (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def forget_peak() -> None:
    """Measure the peak anew from now on, where the system can (Linux: proc(5), clear_refs)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def memory_mb() -> float:
    """The memory this process uses now, in megabytes."""
    return float(psutil.Process().memory_info().rss) / 1e6


def name() -> str:
    """The processor and the system in a few words."""
    return f"{platform.processor() or platform.machine()}, {cores()} cores, {platform.system()}"


@functools.cache
def processor() -> str:
    """What tells this kind of processor from others: its name and what it can do, as a hash.

    Machines that share a home may differ in nothing else. Empty where the system does not say.
    """
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        first = text.partition("\n\n")[0].splitlines()
        telling = [one for one in first if one.startswith(("model name", "flags", "Features"))]
        return hashlib.sha256("\n".join(telling).encode()).hexdigest()[:12]
    return ""
