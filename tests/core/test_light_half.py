from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# What pages import at once; they open in a moment because none of it needs torch.
LIGHT = (
    "core.errors core.settings core.storage core.recipe core.data.archive core.data.images "
    "core.data.layout core.data.importing core.data.dataset core.data.split core.data.samples "
    "core.data.twins "
    "core.jobs core.processes core.auditing.kinds core.auditing.findings "
    "core.models.catalog core.training.events core.evaluation.scores core.evaluation.metrics "
    "core.evaluation.against core.runs.versus core.runs.leaderboard "
    "core.evaluation.calibration core.evaluation.charts core.evaluation.plates core.text "
    "core.runs.run core.runs.queue core.schema"
)
ASK = (
    "import sys, {modules}; print([m for m in ('torch', 'timm', 'streamlit') if m in sys.modules])"
)


def test_the_light_half_imports_neither_torch_nor_streamlit():
    code = ASK.format(modules=", ".join(LIGHT.split()))
    root = Path(__file__).parents[2]
    answer = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr
