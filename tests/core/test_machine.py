from __future__ import annotations

import mmap
import subprocess
import sys

import numpy as np

from core import machine
from core.processes import ROOT


def test_the_peak_of_a_process_is_its_own_and_not_that_of_the_one_that_started_it():
    mine = np.ones(400_000_000, dtype=np.uint8)
    assert machine.peak_memory_mb() > 400
    told = subprocess.run(
        [sys.executable, "-c", "from core import machine; print(machine.peak_memory_mb())"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert 5 < float(told.stdout) < 200 < len(mine) / 1e6


def test_the_peak_grows_with_what_is_used():
    before = machine.peak_memory_mb()
    # From the system itself: a heap that another test had kept would give what it has already.
    held = mmap.mmap(-1, int((before - machine.memory_mb()) * 1e6) + 100_000_000)
    np.frombuffer(held, dtype=np.uint8)[:] = 1
    assert machine.peak_memory_mb() > before + 50
    del held
