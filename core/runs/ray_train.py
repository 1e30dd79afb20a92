"""A run over several nodes, started as a Ray job: `python -m core.runs.ray_train RUN_FOLDER`.

Ray Train starts the workers, tells each its rank and joins them in a process group; each then does
what a single worker does. It ends with status LOST when the run was broken off, so that it is begun
anew from its checkpoint, on the nodes that are left.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from core.processes import ROOT
from core.runs import run as runs
from core.settings import settings
from core.training.events import Ended

# sysexits.h: a failure that may not come again.
LOST = 75


def share(config: dict[str, Any]) -> None:
    """What each worker does: its share of the run."""
    from core.runs import worker

    run = runs.load(config["run"])
    worker.log_to(run)
    # In a thread of Ray's, where no signal can be caught: stopping is by the run's file.
    worker.worked(run)


def main(folder: Path, workers: int, gpus: int, cpus: int) -> int:
    """Train a run with so many workers, each with so many processors; the exit status."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    run = runs.load(folder.resolve().name)
    variables = {
        "PYTHONPATH": str(ROOT),
        "HEADSTART_HOME": str(settings().home),
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # Each worker prints into the run's own log.
    }
    ray.init(runtime_env={"env_vars": variables}, log_to_driver=False)
    scaling = ScalingConfig(
        num_workers=workers,
        use_gpu=bool(gpus),
        resources_per_worker={"GPU": gpus, "CPU": cpus} if gpus else {"CPU": cpus},
        placement_strategy="PACK" if gpus else "SPREAD",
    )
    # Begun anew by the supervisor, which knows how many slots are left.
    settled = RunConfig(
        name=run.id,
        storage_path=str(settings().cache / "ray"),
        failure_config=FailureConfig(max_failures=0),
    )
    trainer = TorchTrainer(
        share, train_loop_config={"run": run.id}, scaling_config=scaling, run_config=settled
    )
    try:
        trainer.fit()
    except Exception as error:
        print(error, file=sys.stderr)
    return 0 if is_over(run) else LOST


def is_over(run: runs.Run) -> bool:
    """Whether a run has come to an end of its own."""
    events = run.events()
    return bool(events) and isinstance(events[-1], Ended)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    for number in ("workers", "gpus", "cpus"):
        parser.add_argument(f"--{number}", type=int, required=True)
    given = parser.parse_args()
    sys.exit(main(given.folder, given.workers, given.gpus, given.cpus))
