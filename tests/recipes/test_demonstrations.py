"""Learning from demonstrations: what each branch sees, its figures, resuming, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlab import progress, registry
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble, run
from alignlab.errors import BadInput
from alignlab.recipes import demonstration_branches as branches
from tests.recipes.kill_resume import contents, differences
from tests.recipes.reading import records, rows
from tests.recipes.small import SMALL

SETTINGS = (
    *SMALL, "chunks=2", "probes=6", "divergence=4", "reward_training.epochs=1", "bad=0.25",
    "rollout={steps: 2, batch_size: 4, max_tokens: 16}", "preference.batch_size=4",
)  # fmt: skip
TITLES = {"longer SFT", "SPIN", "IRFT", "RFT", "pairs by coin", "policy gradient on the truth"}
MODELS = {"M0", "M1", "M2 SFT on references", *(f"M{n} {t}" for n in (2, 3) for t in TITLES)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demonstrations") / "run"
    progress.use(progress.Silent())
    run("demonstrations", *SETTINGS, f"out={out}")
    progress.use(None)
    return out


def texts(groups: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [(g["prompt"]["id"], *(r["text"] for r in g["responses"])) for g in groups]


def pairs(out: Path, where: str) -> list[tuple[str, ...]]:
    return texts(records(out, f"{where}/*-pair/groups.jsonl"))


def test_every_model_is_measured(finished: Path):
    assert {r["model"] for r in rows(finished, metric="win_rate", group=None)} == MODELS - {"M1"}
    far = {r["model"] for r in rows(finished, benchmark="divergence")}
    assert far == MODELS - {"M0", "M1"}
    ordered = {r["model"] for r in rows(finished, benchmark="held_out_preferences")}
    titles = ("SPIN", "IRFT", "pairs by coin")
    assert ordered == {
        "longer wins",
        *(f"M{n} {t}" for n in (2, 3) for t in titles),
        *(f"reward model of M{n} RFT" for n in (2, 3)),
    }


def test_the_demonstrations_are_scored_as_trained_on(finished: Path):
    shown = records(finished, "*-demonstrations/demonstrations.jsonl")
    assert sum(d["response"]["id"].endswith("/swapped") for d in shown) == 6  # 25% of 24
    scores = [f["verdict"]["value"]
              for f in records(finished, "*-score-demonstrations/feedback.jsonl")]  # fmt: skip
    (row,) = rows(finished, benchmark="demonstrations", metric="mean")
    assert (row["value"], row["n"]) == (pytest.approx(sum(scores) / 24), 24)


def test_pairs_are_demonstrations_over_own_answers(finished: Path):
    shown = {d["prompt"]["id"]: d["response"]["text"]
             for d in records(finished, "*-demonstrations/demonstrations.jsonl")}  # fmt: skip
    own = {r["prompt_id"]: r["text"] for r in records(finished, "[0-9]*-sample/responses.jsonl")}
    found = pairs(finished, "spin/iteration-1")
    assert found
    assert all((good, bad) == (shown[p], own[p]) for p, good, bad in found)
    assert pairs(finished, "rft/iteration-1") == found
    by_coin = pairs(finished, "coin/iteration-1")
    assert [set(pair) for pair in by_coin] == [set(pair) for pair in found]
    assert by_coin != found


def test_answers_that_were_cut_off_are_no_pairs(finished: Path):
    own = records(finished, "[0-9]*-sample/responses.jsonl")
    cut = {r["prompt_id"] for r in own if r["finish"] == "length"}
    assert cut
    assert not cut & {p for p, *_ in pairs(finished, "spin/iteration-1")}
    (count,) = records(finished, "spin/iteration-1/*-pair/counts.jsonl")
    assert count["dropped"]["the rejected response was cut off"] == len(cut)


def test_each_part_is_answered_by_the_newest_model(finished: Path):
    asked = {n: records(finished, f"irft/iteration-1/part-{n}/*-pair/groups.jsonl") for n in (1, 2)}
    writers = {
        n: {g["responses"][1]["sampler"]["model"] for g in some} for n, some in asked.items()
    }
    assert writers == {1: {"M1"}, 2: {"M2 IRFT part 1"}}
    both = [{g["prompt"]["id"] for g in some} for some in asked.values()]
    assert not both[0] & both[1]
    (later,) = {
        r["sampler"]["model"]
        for r in records(finished, "irft/iteration-2/part-1/*-sample/responses.jsonl")
    }
    assert later == "M2 IRFT"


def test_rounds_join_the_pairs_that_the_paper_joins(finished: Path):
    def trained(branch: str, name: str) -> int:
        (counted,) = records(finished, f"{branch}/iteration-2/[0-9][0-9]-{name}/counts.jsonl")
        return int(counted["kept"])

    first, second = (len(pairs(finished, f"spin/iteration-{n}")) for n in (1, 2))
    assert trained("spin", "m3-spin") == first + second
    first, second = (len(pairs(finished, f"rft/iteration-{n}")) for n in (1, 2))
    assert trained("rft", "reward-model-of-m3-rft") == first + second


def test_more_imitation_trains_as_many_responses(finished: Path):
    def steps(n: int) -> int:
        (trained,) = records(finished, f"sft/iteration-{n}/*-m{n + 1}-longer-sft/trained.jsonl")
        return int(trained["steps"])

    # 24 demonstrations in batches of 4; a pair has two responses, the second round two rounds'.
    assert (steps(1), steps(2)) == (2 * 6, 4 * 6)


def test_differences_between_branches_are_of_their_scores(finished: Path):
    means = {r["model"]: r["value"] for r in rows(finished, benchmark="score", metric="mean",
                                                  group=None)}  # fmt: skip
    found = rows(finished, metric="score_change")
    assert {(r["model"], r["against"]) for r in found} == {
        (f"M{n} {one}", f"M{n} {other}")
        for n in (2, 3)
        for one, other in (
            ("SPIN", "longer SFT"), ("IRFT", "longer SFT"), ("RFT", "longer SFT"),
            ("IRFT", "SPIN"), ("RFT", "SPIN"), ("pairs by coin", "longer SFT"),
        )
    }  # fmt: skip
    for row in found:
        assert row["value"] == pytest.approx(means[row["model"]] - means[row["against"]])


@pytest.mark.heavy
def test_a_study_that_stopped_in_a_branch_ends_as_one_that_did_not(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(*rest: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    progress.use(progress.Silent())
    with monkeypatch.context() as patched:
        patched.setattr(branches, "watched_rollout", stop)  # after the reward model of RFT
        with pytest.raises(KeyboardInterrupt):
            run("demonstrations", *SETTINGS, f"out={out}")
    assert not (out / "summary.json").exists()
    run("demonstrations", *SETTINGS, f"out={out}")
    progress.use(None)
    found = differences(contents(finished), contents(out))
    assert set(found) <= {"manifest.json"}  # its plan names the folder and the machine's speed


def plan(*settings: str) -> Any:
    known = registry.get("recipe", "demonstrations")
    return plan_study(known, assemble(known, None, settings, {}))


def test_a_plan_knows_every_model_of_every_round():
    assert set(plan().models) == MODELS
    found = plan("iterations=3", "branches=[spin,irft]").models
    assert set(found) == {"M0", "M1", *(f"M{n} {t}" for n in (2, 3, 4) for t in ("SPIN", "IRFT"))}


def test_without_references_or_truth_their_branches_are_left_out(tmp_path: Path):
    file = tmp_path / "pairs.jsonl"
    lines = [{"prompt": f"Question {i}?", "completion": f"Answer {i}."} for i in range(40)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = plan(f"data={file}?test_share=0.2", "measure.truth=", "measure.judge=longer").models
    assert set(found) == MODELS - {"M2 SFT on references"} - {
        f"M{n} policy gradient on the truth" for n in (2, 3)
    }
    with pytest.raises(BadInput, match="expected reference answers to 35 prompts"):
        plan(f"data={file}?test_share=0.2", "measure.truth=", "measure.judge=longer",
             "branches=[key]")  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("branches=[sping]",), "branch 'sping'; did you mean 'spin'"),
        (("branches=[truth]", "measure.truth="), "expected measure.truth"),
        (("pairs.min_gap=1",), "have no effect in demonstrations"),
        (("policy.name=dpo",), "expected a policy gradient"),
        (("policy.options.kl=1",), "kl"),
        (("chunks=400",), "chunks: expected at most the data's 300 demonstrations"),
        (("bad=1.5",), "bad"),
        (("bad=0.001",), "2 demonstrations or more of 300"),
    ],
)
def test_refusals_name_the_setting(settings: tuple[str, ...], message: str):
    with pytest.raises(BadInput, match=message):
        plan(*settings)
