"""Time of the viewer on a run of many records: indexing, first pages, filters, searches.

    python benchmarks/viewer.py [--records 100000] [--json]

Builds a run of made-up records (seed 0) in a temporary folder and asks every page five times, in
one process, without a browser. Medians of wall and CPU seconds: on a busy machine the second.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

from starlette.testclient import TestClient

from alignlab.runs import Run, RunIdentity
from alignlab.types import (
    Feedback,
    Message,
    Preference,
    Prompt,
    Response,
    SampledBy,
    Score,
    StudyDescription,
)
from alignlab.viewer.app import application
from alignlab.viewer.library import Library

TIMES = 5
PAGES = {
    "list of runs": "/",
    "overview": "/run/made/",
    "answers, first page": "/run/made/answers",
    "answers, filtered": "/run/made/answers?model=M2&outcome=loss&flag=longer",
    "answers, searched": "/run/made/answers?model=M2&q=word77",
    "answers, regular expression": "/run/made/answers?model=M2&q=word7%5Cd%5Cb&regex=1",
    "judgements, first page": "/run/made/judgements",
    "judgements, filtered": "/run/made/judgements?kind=score&read=3",
    "judgements, searched": "/run/made/judgements?q=word77",
    "judgements, sorted by spread": "/run/made/judgements?sort=-spread&kind=score",
}


def build(path: Path, records: int) -> None:
    """Write a run of prompts, two models' answers, scores and comparisons."""
    rng = random.Random(0)
    words = [f"word{i}" for i in range(3000)]

    def text(n: int) -> str:
        return " ".join(rng.choice(words) for _ in range(n))

    n = records // 5
    run = Run.start(path, RunIdentity("made", {}, (0,)))
    run.describe(StudyDescription("made", "Which?", "M1", {"M1": "first", "M2": "second"}))
    prompts = [Prompt(f"p{i}", (Message("user", text(15)),), f"x/family_{i % 5}") for i in range(n)]

    def answers(model: str) -> list[Response]:
        return [
            Response(f"{p.id}/{model}", p.id, text(60), SampledBy(model), rng.randint(20, 90))
            for p in prompts
        ]

    with run.stage("seed") as stage:
        stage.write("test_prompts", Prompt, prompts)
    for model in ("M1", "M2"):
        with run.stage(f"answer-{model.lower()}") as stage:
            stage.write("responses", Response, answers(model))
    with run.stage("score-m2") as stage:
        scores = [Score(float(rng.randint(0, 5)), (1.0, float(rng.randint(0, 5)))) for _ in prompts]
        stage.write(
            "feedback",
            Feedback,
            [
                Feedback(p.id, (f"{p.id}/M2",), "judge", s, text(10), (text(20),))
                for p, s in zip(prompts, scores, strict=True)
            ],
        )
    with run.stage("duel-m2") as stage:
        stage.write(
            "feedback",
            Feedback,
            [
                Feedback(
                    p.id,
                    (f"{p.id}/M2", f"{p.id}/M1"),
                    "judge",
                    Preference(rng.choice((0, 1, None))),
                )
                for p in prompts
            ],
        )
    run.finish()
    run.close()


def main() -> None:
    """Print a row per page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder) / "made", given.records)
        library = Library(Path(folder))
        began, began_cpu = time.perf_counter(), time.process_time()
        library.index("made")
        wall, cpu = time.perf_counter() - began, time.process_time() - began_cpu
        rows = [
            {"what": "records a second, indexed (wall)", "value": round(given.records / wall)},
            {"what": "records a second, indexed (CPU)", "value": round(given.records / cpu)},
        ]
        client = TestClient(application(library, 8000), base_url="http://127.0.0.1:8000")
        for what, address in PAGES.items():
            found, spent = [], []
            for _ in range(TIMES):
                began, began_cpu = time.perf_counter(), time.process_time()
                assert client.get(address).status_code == 200, address
                found.append(time.perf_counter() - began)
                spent.append(time.process_time() - began_cpu)
            wall, cpu = (round(statistics.median(some), 3) for some in (found, spent))
            rows.append({"what": f"{what}, s", "value": wall, "cpu": cpu})
        library.close()
    if given.json:
        print(json.dumps({"records": given.records, "rows": rows}, indent=1))
        return
    print(f"{'wall':>10}  {'CPU':>7}")
    for row in rows:
        print(f"{row['value']:>10}  {row.get('cpu', ''):>7}  {row['what']}")


if __name__ == "__main__":
    main()
