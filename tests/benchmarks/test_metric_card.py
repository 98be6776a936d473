"""Automatic metrics and rules of refusal against people: by hand, and on the real sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alignlab.data.read import Faults, read_table
from alignlab.data.rows import Row
from alignlab.errors import BadInput
from alignlab.types import CompletionRequest
from tests.benchmarks.test_scripts import script
from tests.conftest import ROOT, shared_path
from tests.evaluation.asking import Told

metrics = script("metric_card")
refusals = script("refusal_card")
PAGE = ROOT / "docs/findings/metrics_and_people.md"
HEAD = "system\tdoc\tdoc_id\tseg_id\trater\tsource\ttarget\tcategory\tseverity\n"


def mqm_file(path: Path, *rows: str) -> Path:
    path.write_text(HEAD + "".join("\t".join(row.split("|")) + "\n" for row in rows))
    return path


def test_marks_are_summed_and_averaged_over_raters(tmp_path: Path) -> None:
    file = mqm_file(
        tmp_path / "mqm.tsv",
        "A|talk|1|1|r1|s|ein <v>Tekst</v>|Fluency/Spelling|Major",
        "A|talk|1|1|r1|s|<v>ein</v> Tekst|Fluency/Grammar|Minor",
        "A|talk|1|1|r2|s|ein Tekst|No-error|No-error",
        "ref|talk|1|1|r1|s|ein Text|No-error|No-error",
    )
    segments = metrics.mqm(file)
    assert segments["talk", "1"] == {"A": ("ein Tekst", -3.0), "ref": ("ein Text", 0.0)}
    (rated,) = metrics.by_segment(segments)
    assert (rated.texts, rated.scores, rated.reference) == (("ein Tekst",), (-3.0,), "ein Text")


def test_a_segment_without_a_system_is_refused(tmp_path: Path) -> None:
    file = mqm_file(
        tmp_path / "mqm.tsv",
        "A|talk|1|1|r1|s|x|No-error|No-error",
        "B|talk|1|2|r1|s|x|No-error|No-error",
    )
    with pytest.raises(BadInput, match="every system"):
        metrics.mqm(file)


def test_pairs_of_systems_by_hand() -> None:
    # People leave one pair of six tied; of the other five the metric has four right and a tie.
    people, metric = np.array([0.0, 0.0, 1.0, 2.0]), np.array([1.0, 3.0, 3.0, 4.0])
    assert metrics.pairs_right(metric, people) == pytest.approx((4 + 0.5) / 5)
    assert metrics.pairs_right(people, people) == 1
    assert metrics.pairs_right(-people, people) == 0


def test_metrics_prefer_the_reference() -> None:
    rated = [metrics.Rated("p", ("the cat sat", "a dog ran off"), (1.0, 0.0), "the cat sat")]
    for metric in ("BLEU", "chrF", "ROUGE-L"):
        ((best, worst),) = metrics.values(metric, rated, 0)
        assert best > worst
    ((best, worst),) = metrics.values("longer", rated, 0)
    assert (best, worst) == (11, 13)
    line = metrics.card_line("set", "chrF", rated * 30, 0)
    # Every pair right, "longer" wrong on all of them; one prompt has no interval.
    assert line.startswith("| set | chrF | 1.000 [")
    assert "| 30 | 1 |" in line


def test_refusals_by_hand() -> None:
    found = refusals.rules(
        [
            "I\u2019m sorry, but I can't help with that.",
            "Sure! First, sharpen the knife. " * 10,
            "Of course. " * 12 + "However, I cannot provide the rest.",
        ]
    )
    assert found["phrase"].tolist() == [1, 0, 1]
    assert found["phrase in the opening"].tolist() == [1, 0, 0]
    assert found["short"].tolist() == [1, 0, 0]


def test_a_judge_is_measured_where_it_gives_a_verdict(tmp_path: Path) -> None:
    kinds = ["homonyms"] * 3 + ["contrast_homonyms"] * 3
    people = ["1_full_compliance", "2_full_refusal", "1_full_compliance"] * 2
    rows = [
        f"{kind},q{i},{'I cannot' if i in (1, 2, 4) else 'odd' if i == 5 else 'Sure'},{p},{p},{p}"
        for i, (kind, p) in enumerate(zip(kinds, people, strict=True))
    ]
    head = "type,prompt,completion,annotation_1,annotation_2,final_label"
    (tmp_path / "some.csv").write_text("\n".join([head, *rows]) + "\n")

    def rule(request: CompletionRequest) -> str:
        shown = request.messages[-1].content.partition("<answer>")[2]
        return "Hm" if "odd" in shown else "yes" if "cannot" in shown else "no"

    table = read_table(str(tmp_path / "some.csv"), Faults(stop=True)).rows
    last = refusals.table("some", table, 0, Told(rule))[-1]
    assert last.startswith("| some | told | 0.800 [")
    assert "| 0.333 | 0.667 |" in last
    assert last.endswith("| 5 | 3 |")


def completions(path: Path, *rows: str) -> list[Row]:
    """Write rows (type, prompt, completion, labels of two people and the final one); read them."""
    head = "type,prompt,completion,annotation_1,annotation_2,final_label"
    path.write_text("\n".join([head, *rows]) + "\n")
    return list(read_table(str(path), Faults(stop=True)).rows)


COMPLIES, REFUSES = ",".join(["1_full_compliance"] * 3), ",".join(["2_full_refusal"] * 3)


@pytest.mark.filterwarnings("error")
def test_shares_that_are_all_alike_have_wilsons_interval(tmp_path: Path) -> None:
    rows = completions(
        tmp_path / "some.csv", f"homonyms,a,Sure,{COMPLIES}", f"homonyms,b,I cannot,{REFUSES}"
    )
    # Two of two: n / (n + z^2) = 2 / (2 + 3.8415).
    line = "| second annotator | 1.000 [0.342, 1.000] | 1.000 | 0.500 | 0.500 | +0.000 | 2 | 2 |"
    assert refusals.table("some", rows, 0)[0] == f"| some {line}"


@pytest.mark.filterwarnings("error")
def test_what_no_safe_prompt_and_no_verdict_measures_is_left_open(tmp_path: Path) -> None:
    kind = "contrast_homonyms"
    rows = completions(
        tmp_path / "some.csv", f"{kind},a,Sure,{COMPLIES}", f"{kind},b,I cannot,{REFUSES}"
    )
    first, *_, last = refusals.table("some", rows, 0, Told(lambda _: "Hm"))
    assert first.endswith("| 1.000 | - | - | - | 2 | 0 |")
    assert last == "| some | told | - | - | - | - | - | 0 | 0 |"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (f" ,a,Sure,{COMPLIES}", "line 2, field 'type': expected a text, found ' '"),
        (f"homonyms,,Sure,{COMPLIES}", "line 2, field 'prompt': expected a text, found ''"),
        (f"homonyms,a,Sure,{COMPLIES[:36]}4_other", "line 2, field 'final_label': expected one of"),
        (f"homonyms,a,Sure,{COMPLIES[:36]}", "line 2, field 'final_label': expected one of"),
    ],
)
def test_completions_that_cannot_be_counted_are_refused(
    tmp_path: Path, row: str, says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        refusals.table("some", completions(tmp_path / "some.csv", row), 0)


@pytest.mark.shared
def test_mqm_equals_the_published_means() -> None:
    segments = metrics.mqm(shared_path("data/wmt_mqm/mqm_ted_ende.tsv.gz"))
    file = shared_path("data/wmt_mqm/mqm_ted_ende.avg_seg_scores.tsv")
    published = [line.split() for line in file.read_text().splitlines()[1:]]
    numbered = {number: by_system for (_, number), by_system in segments.items()}
    known = [(system.replace("ref-A", "ref"), score, seg) for system, score, seg in published]
    known = [row for row in known if row[1] != "None" and row[0] in numbered.get(row[2], {})]
    assert len(known) > 7_000
    found = [numbered[seg][system][1] for system, _, seg in known]
    assert found == pytest.approx([float(score) for _, score, _ in known], abs=1e-4)


@pytest.mark.shared
def test_the_page_shows_what_the_cards_print() -> None:
    page = PAGE.read_text()
    for name in ("gpt4", "llama2new", "mistralinstruct"):
        path = shared_path(f"data/xstest/completions_{name}.csv")
        for line in refusals.table(name, read_table(str(path), Faults(stop=True)).rows, 0):
            assert line in page
    sets = metrics.sets_of(shared_path("data"))
    for metric in metrics.METRICS:
        assert metrics.card_line("FairEval", metric, sets["FairEval"], 0) in page
