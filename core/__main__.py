"""Headstart from a shell: `python -m core VERB`. Every verb but worker takes --json.

With --json the last line on standard output is one JSON object. Exit status: 0 done, 2 refused
(what is wrong and what to do, on standard error), 1 a fault of ours.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
import threading
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated

import typer

from core import (
    combining,
    contrasting,
    correcting,
    damage,
    deciding,
    examining,
    explaining,
    gathering,
    machine,
    reference,
    reporting,
    searching,
)
from core import recipe as recipes
from core.asking import AsJson, Data, found_dataset, found_run
from core.choosing import Preset, RecipeFile, Settings, chosen_recipe
from core.data.importing import import_all
from core.errors import HeadstartError
from core.recipe import PRESETS
from core.runs import run as runs
from core.runs.run import Run
from core.settings import settings
from core.storage import free_bytes, write_bytes
from core.telling import (
    Teller,
    accuracy_text,
    facts_of,
    figure_lines,
    outcome_facts,
    say,
    summary_text,
)
from core.training.events import Ended, Event

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
FIELD_HELP = "`python -m core fields` explains them. Recipe fields for --set: " + ", ".join(
    name for name, _ in recipes.fields()
)


app.add_typer(gathering.app)
app.add_typer(correcting.app)
app.add_typer(examining.app)
app.add_typer(deciding.app)
app.add_typer(explaining.app)
app.add_typer(reporting.app)
app.add_typer(contrasting.app)
app.add_typer(searching.app)
app.add_typer(combining.app)


@app.command(epilog=FIELD_HELP)
def train(
    data: Data,
    preset: Preset = "quick",
    recipe: RecipeFile = None,
    assignments: Settings = [],  # noqa: B006 (typer reads it, nobody changes it)
    revision: Annotated[int | None, typer.Option(help="Of the dataset; else the newest.")] = None,
    detach: Annotated[bool, typer.Option(help="Queue it and return at once.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a classifier, here and now, or queued with --detach."""
    made = chosen_recipe(preset, recipe, assignments)
    runs.check(made)
    known = None if Path(data).exists() else found_dataset(data, revision)
    imports = threading.Thread(target=slow_imports)
    if not detach:
        machine.keep_heap()  # Before torch, which allocates much.
        imports.start()
    run = runs.create(known or found_dataset(data, revision), made, "" if recipe else preset)
    if detach:
        runs.enqueue(run)
        say({"run": run.id, "state": runs.state_of(run)}, as_json, f"{run.id} is queued.")
        return
    imports.join()
    worked(run, as_json)


def slow_imports() -> None:
    """Import what takes seconds, while the images are still being read by other threads."""
    gc.disable()  # Imports make no garbage, and looking for it takes seconds.
    for name in ("torch", "torchvision.transforms.v2", "timm"):
        import_module(name)
    gc.freeze()
    gc.enable()


@app.command()
def advise(
    data: Data,
    preset: Annotated[
        str | None, typer.Option(help=f"Lay it over one of {', '.join(PRESETS)}.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the recipe here, for --recipe.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at a dataset and propose backbone and recipe, with reasons, and how long it takes."""
    machine.keep_heap()
    imports = threading.Thread(target=slow_imports)
    imports.start()
    dataset = found_dataset(data)
    imports.join()
    from core.models.advisor import Advice, in_words
    from core.training.estimate import advise as steps

    doing = ""
    for step in steps(dataset, preset):
        if isinstance(step, Advice):
            if output is not None:
                write_bytes(output, recipes.to_yaml(step.recipe).encode())
            say({"dataset": dataset.id, **step.to_json()}, as_json, in_words(step))
        elif step.text != doing and not as_json:
            doing = step.text
            print(f"{doing}…", flush=True)


@app.command("fields")
def fields_(
    markdown: Annotated[bool, typer.Option(help="As a page of the documentation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Explain every field of a recipe: its values, its default, what it does."""
    text = reference.markdown().rstrip() if markdown else "\n".join(reference.lines())
    say({"fields": reference.facts()}, as_json, text)


@app.command()
def resume(run_id: Annotated[str, typer.Argument(metavar="RUN")], as_json: AsJson = False) -> None:
    """Go on with a run that was stopped or whose worker died, from its last checkpoint."""
    run = found_run(run_id)
    runs.ready_to_resume(run)
    worked(run, as_json)


def worked(run: Run, as_json: bool) -> None:
    """Work on a run in this process, tell what happens, and end as it ended."""
    from core.runs.worker import work

    last: Event | None = None
    tell = Teller(quiet=as_json)
    for last in work(run):
        tell(last)
    ended = last if isinstance(last, Ended) else Ended("failed", what="It ended without a word.")
    if ended.reason == "failed":
        if as_json:
            say(facts_of(run, ended), as_json, "")
        raise HeadstartError(ended.what, ended.remedy)
    say(facts_of(run, ended), as_json, summary_text(run, ended))


@app.command()
def stop(run_id: Annotated[str, typer.Argument(metavar="RUN")], as_json: AsJson = False) -> None:
    """Ask a run to stop; its best epoch so far is scored and kept."""
    run = found_run(run_id)
    runs.ask_to_stop(run)
    say({"run": run.id, "state": runs.state_of(run)}, as_json, f"{run.id} was asked to stop.")


@app.command("runs")
def runs_(as_json: AsJson = False) -> None:
    """List all runs, the newest first."""
    rows = [
        {
            "run": run.id, "name": run.name, "state": runs.state_of(run, events),
            "dataset": run.dataset_name, "revision": run.revision, "created": run.created,
            "test": runs.result_of(events).get("test", {}),
        }
        for run in runs.listed()
        for events in [run.events()]
    ]  # fmt: skip
    lines = [f"{r['run']}  {r['state']:<12} {accuracy_text(r['test'])}  {r['name']}" for r in rows]
    say({"runs": rows}, as_json, "\n".join(lines) or "There are no runs yet.")


@app.command()
def backbones(as_json: AsJson = False) -> None:
    """List the catalog of backbones and which are usable right now."""
    from core.models import weights
    from core.models.catalog import backbones as catalog

    rows = [{**vars(b), "place": weights.place_of(b.name)} for b in catalog()]
    lines = [
        f"{r['name']:<48} {r['parameters_m']:>7.1f} M  {r['input_size']:>4} px  "
        f"{r['imagenet_top1'] or 0:5.1f} %  {r['license']:<16} "
        f"{'usable now' if r['place'] != 'hub' else 'needs the hub'}"
        for r in rows
    ]
    say({"backbones": rows}, as_json, "\n".join(lines))


@app.command()
def evaluate(
    run_id: Annotated[str, typer.Argument(metavar="RUN")],
    on: Annotated[Path | None, typer.Option(help="Another labelled zip or folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Figures of a run, each with its 95 % interval: of its own parts, or on new images."""
    from core.evaluation import baseline, metrics, scores

    run = found_run(run_id)
    if on is None:
        stored = scores.load(run.predictions)
        parts = {
            part: metrics.summary(stored.part(part))
            | baseline.facts(baseline.of_part(stored, part, run.classes))
            for part in ("train", "val", "test")
        }
    else:
        from core.models import classifier
        from core.serving import batch

        machine.keep_heap()
        new = batch.score(classifier.shared(run.model), import_all(on))
        learned = scores.load(run.predictions).part("train").labels
        always = baseline.of_labels(new.labels, learned, run.classes)
        parts = {"new": metrics.summary(new) | baseline.facts(always)}
    result = {"run": run.id, **{part: figures for part, figures in parts.items() if figures["n"]}}
    lines = [line for part, found in parts.items() for line in figure_lines(part, found)]
    say(result, as_json, "\n".join(lines))


@app.command()
def predict(
    run_id: Annotated[str, typer.Argument(metavar="RUN")],
    paths: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    csv: Annotated[Path | None, typer.Option(help="Write a table here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Classify images."""
    run = found_run(run_id)
    from core.models.classifier import shared
    from core.serving.batch import predict_files, predictions_csv

    rows = list(predict_files(run.model, paths))
    if csv is not None:
        write_bytes(csv, predictions_csv(shared(run.model).classes, rows).encode("utf-8-sig"))
    result = [{"file": str(path), **outcome_facts(outcome)} for path, outcome in rows]
    lines = [f"{r['file']}: {r.get('prediction') or r['error']}" for r in result]
    say({"run": run.id, "predictions": result}, as_json, "\n".join(lines) or "There are no images.")


@app.command()
def worker(
    until_idle: Annotated[bool, typer.Option(help="End when there is nothing to do.")] = False,
) -> None:
    """Serve the queue in the foreground: start a worker for each free device."""
    from core.runs.supervisor import supervise

    supervise(until_idle=until_idle)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """What this machine has: devices, weights, limits, free disk."""
    import torch

    from core.models import device as devices
    from core.models import weights
    from core.models.catalog import backbones as catalog

    limits = settings()
    result = {
        "home": str(limits.home),
        "free_gb": round(free_bytes(limits.home) / 1e9, 1),
        "machine": machine.name(),
        "device": devices.title(devices.resolve("auto")),
        "cuda_devices": torch.cuda.device_count(),
        "fast_format": str(devices.forward_dtype(devices.resolve("auto"))).removeprefix("torch."),
        "weights_here": [b.name for b in catalog() if weights.usable_now(b.name)],
        "hub_answers": weights.hub_answers(),
        "versions": {n: metadata.version(n) for n in ("torch", "torchvision", "timm", "streamlit")},
        "limits": {k: str(v) for k, v in limits.model_dump().items() if k.startswith("m")},
        "nvidia_tool": shutil.which("nvidia-smi") or "",
    }
    say(result, as_json, "\n".join(f"{key}: {value}" for key, value in result.items()))


def guarded(run_app: Callable[[], None]) -> int:
    """Run the shell; the exit status. A refusal is two sentences, never a traceback."""
    try:
        with damage.disk_errors():
            run_app()
    except HeadstartError as error:
        print(f"{error.what}\n{error.remedy}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted. `python -m core resume RUN` goes on with a training.", file=sys.stderr)
        return 130
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except BrokenPipeError:
        # Who read the output has gone; nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("HEADSTART_TRACEBACK"):
            raise
        print(
            f"Headstart made a mistake ({type(error).__name__}: {error}).\n"
            "Set HEADSTART_TRACEBACK=1 and run it again to see where; please report it.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    machine.share_cores()
    sys.exit(guarded(app))
