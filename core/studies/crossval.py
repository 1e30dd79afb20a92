"""Cross-validation: every image is once judged by a model that has not seen it.

Data flow: folds -> one run each -> out-of-fold predictions of all images -> a run of its own, whose
test part they are, so that Evaluate, Compare and the audit take them as those of any run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from core import recipe as recipes
from core.data import folding
from core.data.dataset import Dataset
from core.data.folding import KEPT, Fold
from core.errors import RecipeRefused
from core.evaluation import baseline, intervals, metrics
from core.evaluation import scores as scoring
from core.evaluation.intervals import Figure
from core.evaluation.scores import Scores
from core.machine import late_numpy as np
from core.machine import late_pandas as pd
from core.runs import engine
from core.runs import run as runs
from core.runs.run import Place, Run
from core.schema import Recipe
from core.storage import Json
from core.studies import study as studies
from core.studies.candidates import Crew, figures, folded
from core.studies.study import Study
from core.training.events import Note

GROUPS = "groups"


@dataclass(frozen=True)
class Plan:
    """What a cross-validation is told.

    folds: how many; 0 leaves out one group after the other. repeats: drawings of the folds.
    keep_test: whether the test part of the recipe's split stays out of all folds.
    """

    folds: int = 5
    repeats: int = 1
    keep_test: bool = False


def start(dataset: Dataset, recipe: Recipe, plan: Plan, name: str = "") -> Study:
    """Begin a cross-validation; it goes on in the background.

    Raises: DatasetRefused for folds that the images do not allow, RecipeRefused, WeightsMissing.
    """
    if recipe.data.fold:
        raise RecipeRefused(
            f"The recipe is that of one fold ({recipe.data.fold}).", "Leave data.fold empty."
        )
    what = recipes.short_name(recipe)
    recipe = recipes.changed(recipe, {"data": {"keep_test": plan.keep_test}})
    found = folds_of(dataset, recipe, plan)
    for fold in found:
        folding.parts(dataset, folded(recipe, fold))  # Refused now, not in the middle.
    title = f"{len(found)} folds" if plan.folds else f"each of {len(found)} groups left out"
    facts: Json = {**vars(plan), "members": [str(fold) for fold in found]}
    name = name or f"{what}, {title}, on {dataset.name}"
    return studies.create("crossval", dataset, recipe, facts, name)


def folds_of(dataset: Dataset, recipe: Recipe, plan: Plan) -> list[Fold]:
    """The folds of a plan, in the order in which they are trained.

    Raises: DatasetRefused.
    """
    if plan.folds:
        return folding.of_count(dataset, recipe, plan.folds, plan.repeats)
    return folding.of_groups(dataset, recipe)


def conduct(study: Study) -> Iterator[None]:
    """Train every fold, and put together what they say; yields whenever it only waits.

    Raises: HeadstartError when a fold cannot be trained.
    """
    crew = Crew.of(study)
    folds = [folding.read(text) for text in study.plan["members"]]
    slots = max(1, len(engine.chosen().slots()))
    while True:
        begun = [str(k) for k in range(len(folds)) if str(k) in crew.runs]
        outcomes = {k: crew.look(k, cut=study.asked_to_stop) for k in begun}
        live = [member for member, outcome in outcomes.items() if outcome == "live"]
        if study.asked_to_stop:
            for member in live:
                crew.stop(member)
        failed = next((m for m, outcome in outcomes.items() if outcome == "failed"), None)
        if failed is not None and not study.asked_to_stop:
            stop_others(crew, live)
            raise RecipeRefused(
                f"Fold {folds[int(failed)]} could not be trained: {crew.why(failed)}",
                "Correct the recipe or the data, and cross-validate again.",
            )
        if not live and (study.asked_to_stop or len(outcomes) == len(folds)):
            break
        if study.asked_to_pause and not live:
            return
        waiting = study.asked_to_pause or study.asked_to_stop or len(outcomes) == len(folds)
        if waiting or len(live) >= slots:
            yield
            continue
        begin(study, crew, folds, len(outcomes))
    done = [m for m in outcomes if runs.state_of(crew.runs[m]) == "finished"]
    finish(study, crew, [folds[int(m)] for m in done], [crew.runs[m] for m in done], len(folds))


def stop_others(crew: Crew, live: list[str]) -> None:
    """End the folds that are under way when one cannot be trained."""
    for member in live:
        crew.stop(member)


def begin(study: Study, crew: Crew, folds: list[Fold], number: int) -> None:
    """Start the run of the next fold."""
    place = Place(study.id, str(number))
    crew.begin(
        str(number), folded(study.recipe, folds[number]), f"Fold {folds[number]} of {study.name}",
        place,
    )  # fmt: skip


def finish(study: Study, crew: Crew, folds: list[Fold], trained: list[Run], wanted: int) -> None:
    """Write down what the folds came to; of a stopped one, what those that were trained did."""
    reason = "finished" if len(trained) == wanted else "stopped"
    once = [run for fold, run in zip(folds, trained, strict=True) if not fold.drawing]
    if not once:
        studies.end(study, "stopped", folds=[], metrics={})
        return
    rows = [
        {"fold": str(fold), "run": run.id, **figures(run)["test"]}
        for fold, run in zip(folds, trained, strict=True)
    ]
    found = out_of_fold(once)
    free = ~folding.kept_out(study.data(), study.recipe)
    outcome = outcome_of(study, crew, trained, found) if reason == "finished" else None
    studies.end(
        study, reason, folds=rows, n=len(found),
        spread={name: asdict(one) for name, one in spread(rows, int(free.sum())).items()},
        metrics=summary_of(study, found), run=outcome.id if outcome else "",
    )  # fmt: skip


def summary_of(study: Study, found: Scores) -> Json:
    """The figures of all folds together, with the baseline on the same images."""
    always = baseline.of_labels(found.labels, found.labels, study.data().classes)
    return metrics.summary(found) | baseline.facts(always)


OUTCOME = "outcome"


def outcome_of(study: Study, crew: Crew, trained: list[Run], found: Scores) -> Run:
    """The run of a cross-validation: its test images are all folds', its classifier their mean.

    Images that were kept out of all folds are scored by that mean, as the part "kept".
    """
    if OUTCOME in crew.runs:
        return crew.runs[OUTCOME]  # A driver that died had written it already.
    from core.studies.ensemble import CROSSVAL, mean_of_all
    from core.studies.gathering import gathered, written

    members = gathered([run.id for run in trained])
    together = mean_of_all(members)
    place = pd.Index(together.scores.images.astype(str)).get_indexer(found.images.astype(str))
    probabilities, parts = together.scores.probabilities.copy(), members.parts.copy()
    parts[parts == "test"] = KEPT
    probabilities[place], parts[place] = found.probabilities, "test"
    told = np.isin(parts.astype(str), ("test", KEPT))
    scores = replace(together.scores, probabilities=probabilities, split=parts).chosen(told)
    facts: Json = {
        "kind": CROSSVAL, "members": [run.id for run in trained], "name": study.name,
        "study": study.id, "member": OUTCOME,
    }  # fmt: skip
    note = (
        "Each test image was judged by the model that had not seen it. The classifier is the mean "
        f"of all {len(trained)} models: what it says of these images itself is no fair figure."
    )
    return written(
        members, together.classifier, scores, together.features[told], facts, [note], together.keep
    )


def out_of_fold(trained: list[Run]) -> Scores:
    """What the models of one drawing say of the images that they had not seen, by name."""
    together = scoring.joined([scoring.load(run.predictions).part("test") for run in trained])
    return together.chosen(np.argsort(together.images.astype(str)))


def spread(rows: list[Json], n: int) -> dict[str, Figure]:
    """Mean of each figure over the folds, with an interval for training again on other images.

    n: images that are divided: those of all folds, and those that every fold learns from.
    """
    tested = float(np.mean([row["n"] / max(1, n - row["n"]) for row in rows]))
    found = {}
    for name in metrics.KINDS:
        values = [row[name] for row in rows if row.get(name) is not None]
        if len(values) == len(rows):
            most = None if name == "log_loss" else 1.0
            limits = metrics.LOWEST.get(name, 0.0), most
            found[name] = intervals.of_folds(np.array(values, dtype=float), tested, limits)
    return found


def rows(study: Study) -> list[Json]:
    """One row for each fold: its state and, once it is trained, its figures."""
    members = studies.members(study)
    found = []
    for number, fold in enumerate(study.plan["members"]):
        run = members.get(str(number))
        events = run.events() if run else []
        test = runs.result_of(events).get("test", {})
        found.append(
            {
                "fold": fold,
                "state": runs.state_of(run, events) if run else "waiting",
                "accuracy": test.get("accuracy"),
                "low": test.get("accuracy_low"),
                "high": test.get("accuracy_high"),
                "n": test.get("n"),
                "log loss": test.get("log_loss"),
                "run": run.id if run else "",
            }
        )
    return found


def table(study: Study) -> list[Json]:
    """Each figure of all folds together, and as the mean of the folds, in words."""
    result = study.result
    figures, spreads = result["metrics"], result["spread"]
    found = []
    for name, kind in metrics.KINDS.items():
        if figures.get(name) is None or name not in spreads:
            continue
        value, low, high = (figures[f"{name}{end}"] for end in ("", "_low", "_high"))
        whole = Figure(value, low, high, figures["n"])
        mean = Figure(**spreads[name])
        found.append(
            {
                "figure": kind.title,
                "all folds together": f"{kind.written(value)} ({kind.interval(whole)})",
                "mean of the folds": f"{kind.written(mean.value)} ({kind.interval(mean)})",
            }
        )
    return found


def notes(study: Study) -> list[str]:
    """What was noticed in the trainings of most folds, in the words of the first of them."""
    members = studies.members(study)
    trained = [members[str(k)] for k in range(len(study.plan["members"])) if str(k) in members]
    texts: dict[str, list[str]] = {}
    for run in trained:
        kinds = {event.kind: event.text for event in run.events() if isinstance(event, Note)}
        for kind in filter(None, kinds):
            texts.setdefault(kind, []).append(kinds[kind])
    return [
        f"Told in {len(found)} of {len(trained)} folds (figures of the first): {found[0]}"
        for found in texts.values()
        if 2 * len(found) > len(trained)
    ]


def told(study: Study) -> list[str]:
    """What a cross-validation came to, in sentences."""
    result = study.result
    if not result["metrics"]:
        return ["It was stopped before any fold was trained."]
    lines = [
        f"  {row['figure']:<26}{row['all folds together']:<28}{row['mean of the folds']}"
        for row in table(study)
    ]
    heads = f"  {'':<26}{'all together':<28}mean of the folds"
    return [f"Out of fold, n = {result['n']:,}, 95 % intervals:", heads, *lines, *notes(study)]
