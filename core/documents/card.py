"""The model card of a run: Markdown in the Hugging Face layout, its front matter as YAML."""

from __future__ import annotations

from typing import Any

import yaml

from core.documents import facts as gathering
from core.documents.document import beside, described, figures, purpose, templates
from core.documents.facts import Facts
from core.documents.limits import limits
from core.documents.loading import is_plain, loading
from core.evaluation import metrics
from core.models import catalog, weights
from core.runs.run import Run
from core.storage import Json
from core.text import line, markdown

# Licenses under the names that Hugging Face knows; others are told as `other` with their name.
HUB_LICENSES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-nc-4.0")
# Figures under the names of Hugging Face's metrics.
METRICS = {
    "accuracy": "accuracy", "macro_f1": "f1", "auc": "roc_auc", "macro_precision": "precision",
    "macro_recall": "recall", "matthews": "matthews_correlation",
}  # fmt: skip
PARTS = {"test": "test", "val": "validation", "train": "train"}
LONGEST_NAME = 80


def card(run: Run) -> str:
    """The model card of a run; the same run gives the same card.

    Raises: NotFound before the run was scored.
    """
    facts = gathering.gathered(run)
    values = {**figures(facts), **described(facts), "limits": limits(facts, markdown)}
    values |= {"purpose": purpose(facts, shown), "baseline": beside(facts, shown)}
    body = (
        templates()
        .get_template("card.md")
        .render(
            run=run,
            facts=facts,
            **values,
            shown=shown,
            escaped=markdown,
            code=loading(run),
            base_model=base_model(run),
        )
    )
    return f"---\n{front(facts)}---\n\n{body}"


def shown(name: object) -> str:
    """A name as Markdown shows it literally: one line, not too long."""
    return markdown(line(name, LONGEST_NAME))


def front(facts: Facts) -> str:
    """The front matter as YAML, which can hold any name."""
    learned = ["transfer-learning"] if facts.run.recipe.is_pretrained else []
    values: dict[str, Any] = {
        **license_of(facts),
        "library_name": "timm" if is_plain(facts.run) else "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", *learned, "headstart"],
        "metrics": [*METRICS.values()],
        "model-index": [{"name": line(facts.run.name), "results": [results(facts)]}],
    }
    if base := base_model(facts.run):
        values["base_model"] = base
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=10_000)
    return text


def base_model(run: Run) -> str:
    """Where the hub has the weights that a training began with; "" for others."""
    recipe = run.recipe
    known = catalog.backbone(weights.full_name(recipe.backbone.name))
    from_hub = recipe.is_pretrained and recipe.backbone.weights == "pretrained"
    return f"timm/{known.name}" if known is not None and from_hub else ""


def license_of(facts: Facts) -> Json:
    """The license as the hub reads it."""
    name = facts.license.name
    if name in HUB_LICENSES:
        return {"license": name}
    if not name:
        return {"license": "unknown"}
    base = base_model(facts.run)
    link = {"license_link": f"https://huggingface.co/{base}"} if base else {}
    return {"license": "other", "license_name": name, **link}


def results(facts: Facts) -> Json:
    """The figures of the part that counts, as the hub's leaderboards read them."""
    found = facts.main.figures
    return {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {
            "name": line(facts.run.dataset_name), "type": "imagefolder",
            "split": PARTS[facts.part], "revision": facts.run.digest,
        },
        "metrics": [
            {"type": type_, "value": round(value, 6), "name": metrics.KINDS[name].title}
            for name, type_ in METRICS.items()
            if (value := found[name].value) is not None
        ],
    }  # fmt: skip
