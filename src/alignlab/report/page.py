"""Write a run's `summary.json` and `report.html`: one file, no network, light and dark."""

from __future__ import annotations

import shlex
from collections import Counter
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from alignlab.files import write_json, write_text
from alignlab.report import (
    about,
    browser,
    headline,
    plan_table,
    sections,
    summary,
    training_curves,
)
from alignlab.report.labels import duration, explained
from alignlab.report.policy import with_policy
from alignlab.report.run_data import RunData, read_run
from alignlab.report.run_settings import read_settings
from alignlab.text import without_folders

TEMPLATES = Path(__file__).parent / "templates"
MAX_EXAMPLES = 200
"""Maximum number of examples in a page, so that a large study's page stays at a few megabytes."""


def write_report(run_dir: Path) -> Path:
    """Write summary.json and report.html into a run directory; return the page's path.

    Raises:
        BadInput: not a run directory, or a record in it cannot be read.
    """
    run = read_run(run_dir)
    write_json(run_dir / "summary.json", summary.summarise(run))
    page = run_dir / "report.html"
    write_text(page, render(run))
    return page


def render(run: RunData) -> str:
    """Render the page of a run as HTML."""
    spent = training_curves.spending(run)
    return with_policy(
        environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            title=_title(run),
            answer=headline.with_judge(
                headline.derive(run.results, run.study.baseline, run.study.options), run.study
            ),
            judge=without_folders(run.study.judge),
            facts=about.facts(run.manifest, read_settings(run.path)),
            doubts=about.doubts(run.results, run.study.baseline),
            progress=tuple(about.progress(run)),
            words=explained(run.study.models.values()),
            sections=sections.build(run),
            curves=training_curves.curves(run.curves, run.study.models),
            spent=spent,
            planned=plan_table.planned(run),
            parts=plan_table.parts(run),
            cheapest=plan_table.cheapest(run),
            address=_address(run.path),
            spent_total=training_curves.total(spent),
            counts=training_curves.counts(run.counts),
            wall=duration(run.wall_seconds),
            kinds=kinds_of(run),
            examples_shown=min(len(run.examples), MAX_EXAMPLES),
            examples=browser.embedded(
                run.examples[:MAX_EXAMPLES], run.study.models, _first_shown(run)
            ),
        )
    )


def kinds_of(run: RunData) -> list[tuple[str, int]]:
    """Count prompt types and families among the examples shown."""
    found = [k for e in run.examples[:MAX_EXAMPLES] for k in browser.kinds(e.prompt)]
    return sorted(Counter(found).items())


def _first_shown(run: RunData) -> list[str]:
    """Return the models whose answers are open initially: the baseline, two best, the worst."""
    answering = dict.fromkeys(a.model for e in run.examples for a in e.answers)
    rows = headline.comparisons(run.results, run.study.baseline)
    ranked = [r.model for r in sorted(rows, key=lambda r: -(r.value or 0)) if r.model in answering]
    wanted = [run.study.baseline, *ranked[:2], *ranked[-1:]]
    chosen = [m for m in answering if m in wanted]
    return chosen if len(chosen) > 1 else list(answering)[:4]


@cache
def environment() -> Environment:
    """Return the template environment, which escapes everything inserted."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.tests["losing"] = lambda count: bool(sum(count.dropped.values()) or count.changed)
    return made


def _address(run: Path) -> str:
    """Return a run's folder as commands take it, from the folder around its own."""
    return shlex.quote("/".join(run.resolve().parts[-2:]))


def _title(run: RunData) -> str:
    return run.manifest.recipe.replace("_", " ").capitalize()
