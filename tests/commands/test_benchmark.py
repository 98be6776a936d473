"""`alignlab evaluate NAME`: a benchmark from answers to report, resumed, refused, shown."""

import json
import re

import pytest

from alignlab import context as lab_module
from alignlab.api.evaluating import evaluate
from alignlab.commands import benchmark
from alignlab.commands.benchmark import run_benchmark, tasks
from alignlab.errors import BadInput
from alignlab.feedback.rules import LengthJudge
from alignlab.models.load import save
from tests.evaluation.asking import Told, jsonl
from tests.feedback.test_classifier import save_classifier
from tests.generation.tiny import tiny

VICUNA = [
    {"question_id": i, "category": ("math", "writing")[i % 2], "turns": [f"Question {i}?"]}
    for i in range(5)
]
POSTS = [{"context": f"post {i}\nTL;DR:", "ref_text": f"summary {i}"} for i in range(3)]
PAIRS = [
    {"prompt": f"p{i}", "chosen": "a good answer", "rejected": "no" * (i % 3)} for i in range(1, 7)
]
STYLES = [{"prompt": f"p{i}", "chosen": list("abc"), "rejected": list("xyz")} for i in range(3)]
TOPICS = [{"subj": n, "paragraphs": [{"title": n, "text": f"{n} lives."}]} for n in ("Ann", "Bob")]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A random model on disk."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    lm = tiny()
    lm.model.config.max_position_embeddings = 2048  # room for a judge's prompt
    save(lm, folder)
    return str(folder)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """A random text classifier on disk."""
    folder = tmp_path_factory.mktemp("models") / "classifier"
    save_classifier(folder)
    return f"classifier:{folder}"


@pytest.fixture
def files(tmp_path):
    """Data of every benchmark, by name."""
    task = {"Definition": ["Copy."], "Instances": [{"input": "x", "output": ["x"]}] * 2}
    (tmp_path / "task.json").write_text(json.dumps(task))
    plain = [{"prompt": f"say {i}"} for i in range(3)]
    alpaca = [{"instruction": f"do {i}", "output": f"done {i}"} for i in range(3)]
    toxic = [{"prompt": f"- {i}\\n-", "group": "g", "label": "hate"} for i in range(3)]
    return {
        "alpaca_eval": jsonl(tmp_path / "alpaca.jsonl", *alpaca),
        "arena_hard": jsonl(tmp_path / "arena.jsonl", *VICUNA),
        "diversity": jsonl(tmp_path / "plain.jsonl", *plain),
        "factscore": jsonl(tmp_path / "topics.jsonl", *TOPICS),
        "judge_quality": jsonl(tmp_path / "pairs.jsonl", *PAIRS),
        "mt_bench": jsonl(tmp_path / "mt.jsonl", *[{**q, "turns": ["a", "b"]} for q in VICUNA]),
        "qa": jsonl(
            tmp_path / "qa.jsonl",
            *[{"prompt": f"{i}+2?", "reference": f"{i + 2}"} for i in range(2)],
        ),
        "relevant_sentences": tmp_path / "plain.jsonl",
        "reward_accuracy": tmp_path / "pairs.jsonl",
        "reward_bench": jsonl(tmp_path / "rb.jsonl", *[p | {"subset": "math-prm"} for p in PAIRS]),
        "rm_bench": jsonl(tmp_path / "chat.jsonl", *STYLES),
        "super_ni": tmp_path / "task.json",
        "synrel": tmp_path / "topics.jsonl",
        "tldr": jsonl(tmp_path / "posts.jsonl", *POSTS),
        "toxigen": jsonl(tmp_path / "toxic.jsonl", *toxic),
        "translation": jsonl(tmp_path / "wmt.jsonl", {"src": "ja", "ref": "yes"}),
        "vicuna_bench": tmp_path / "arena.jsonl",
        "xstest": jsonl(tmp_path / "xstest.jsonl", *[p | {"type": "homonyms"} for p in plain]),
    }


def test_every_benchmark_is_tried_here(files):
    assert set(tasks()) == set(files) | {"lm_eval", "multiple_choice"}


@pytest.mark.parametrize(
    "name",
    [name for name in tasks() if name not in ("lm_eval", "multiple_choice", "alpaca_eval")],
)
def test_end_to_end_on_a_tiny_model(alignlab, files, tiny_folder, classifier, tmp_path, name):
    needs = benchmark.find_task(name).needs
    arguments = ["evaluate", name, "--data", files[name], "--out", tmp_path / "run", "--json"]
    if needs.models == "needed":
        arguments += ["--model", f"mine={tiny_folder}", "max_tokens=12", "threads=1"]
    if needs.judges and name != "qa":  # one attempt leaves a judge nothing to choose
        judge = "longer" if needs.judges != ("model",) else "sandbox:strong"
        own = {"toxigen": classifier, "xstest": "sandbox:strong"}
        arguments += ["--judge", own.get(name, judge)]
    if needs.baseline == "needed":
        texts = [{"id": i, "output": "x" * (3 * i)} for i in range(5)]
        arguments += ["--baseline", jsonl(tmp_path / "base.jsonl", *texts)]
    if name == "factscore":
        corpus = jsonl(tmp_path / "corpus.jsonl", {"title": "Ann", "text": "Ann lives."})
        arguments.append(f"corpus={corpus}")
    ended = alignlab(*arguments)
    # The sandbox's judge finds no sense in these questions.
    if name in ("factscore", "relevant_sentences", "xstest"):
        assert ended.code == 1
        assert f"{name}: no answer was scored" in ended.err
    else:
        assert ended.code == 0, ended.err
        rows = json.loads(ended.out)["rows"]
        assert rows
        assert all({"model", "benchmark", "n", "unscored"} <= row.keys() for row in rows)
    page = (tmp_path / "run" / "report.html").read_text()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["recipe"] == name
    assert len(summary["rows"]) > 0
    if needs.baseline == "needed":
        assert "not comparable with published figures" in page
    if needs.models == "needed":
        assert '"examples": [{' in page


def test_alpaca_eval_on_a_model_and_its_files_still_work(alignlab, files, tiny_folder, tmp_path):
    judge = f"local:{tiny_folder}"
    command = ("evaluate", "alpaca_eval", "--data", files["alpaca_eval"], "--model", tiny_folder)
    ended = alignlab(
        *command, "--judge", judge, "--out", tmp_path / "r", "max_tokens=12", "threads=1"
    )
    # A random model names neither answer: its letters hold next to no probability.
    assert ended.code == 1
    assert "alpaca_eval: no answer was scored (3 unscored" in ended.err
    (file,) = (tmp_path / "r").rglob("results.jsonl")
    rows = {row["metric"]: row for row in map(json.loads, file.read_text().splitlines())}
    win_rate = rows["win_rate"]
    assert (win_rate["value"], win_rate["n"], win_rate["comparable"]) == (None, 0, False)
    assert win_rate["against"] == "the data's baseline"
    assert rows["unreadable"]["value"] == 1
    # A mean over what was asked, not over the leaderboard's 805.
    assert rows["avg_length"]["value"] > 0
    assert "--annotations is missing" in alignlab("evaluate", "alpaca_eval").line


def test_thoughts_are_taken_off_answers_and_counted(alignlab, files, tmp_path):
    own = [{"id": i, "output": f"<think>{'hm ' * 20}</think>\n\nyes", "generator": "theirs"}
           for i in range(4)]  # fmt: skip
    own[3]["output"] = "<think>cut off"
    base = [{"id": i, "output": "yes", "generator": "b"} for i in range(4)]
    command = (
        *("evaluate", "vicuna_bench", "--data", files["vicuna_bench"], "--judge", "longer"),
        *("--outputs", jsonl(tmp_path / "own.jsonl", *own)),
        *("--baseline", jsonl(tmp_path / "base.jsonl", *base), "--out", tmp_path / "run"),
    )
    row, _ = json.loads(alignlab(*command, "--json").out)["rows"]
    assert (row["ties"], row["losses"]) == (0.75, 0.25)
    assert row["thoughts_removed"] == 4
    assert "Answers without their thoughts" in page(tmp_path)


def test_outputs_given_before(alignlab, files, tmp_path):
    own = [{"id": i, "output": "x" * i, "generator": "theirs"} for i in range(4)]
    base = [{"question_id": i, "model_id": "b", "choices": [{"turns": ["yy"]}]} for i in range(5)]
    command = (
        *("evaluate", "vicuna_bench", "--data", files["vicuna_bench"], "--judge", "longer"),
        *("--outputs", jsonl(tmp_path / "own.jsonl", *own)),
        *("--baseline", jsonl(tmp_path / "base.jsonl", *base)),
        *("--out", tmp_path / "run"),
    )
    row, judge = json.loads(alignlab(*command, "--json").out)["rows"]
    assert judge["model"] == "judge longer"  # "" lost, two ties; "xx" is as long as the other
    assert judge["longer_wins"] == pytest.approx(2 / 3)
    assert (row["model"], row["against"], row["unscored"]) == ("theirs", "b", 1)
    # Words decide: one word against one word are ties, the empty answer loses.
    assert (row["win_rate"], row["ties"], row["losses"]) == (1.5 / 4, 0.75, 0.25)
    table = alignlab(*command).out
    assert "comparable" in table
    assert "report: " in table
    shown = re.search(r'<script type="application/json" id="data">(.*?)</script>', page(tmp_path))
    examples = json.loads(shown[1])["examples"]
    assert [a["model"] for a in examples[0]["answers"]] == ["theirs", "b"]
    assert examples[0]["answers"][0]["text"] == ""  # the worst comes first


def page(tmp_path):
    return (tmp_path / "run" / "report.html").read_text()


class Dying(LengthJudge):
    """A judge that is killed at its third chunk, and counts what it is asked."""

    name = "dying"
    asked = 0
    dies = True

    def rate(self, items, seed):
        if Dying.dies and Dying.asked >= 4:
            raise KeyboardInterrupt
        Dying.asked += len(items)
        return super().rate(items, seed)


def test_killed_and_resumed_asks_nothing_twice(files, tiny_folder, tmp_path, monkeypatch):
    given = {
        "data": files["vicuna_bench"],
        "model": f"mine={tiny_folder}",
        "judge": "longer",
        "baseline": jsonl(tmp_path / "b.jsonl", *[{"id": i, "output": "a b c"} for i in range(5)]),
        "max_tokens": 12,
        "threads": 1,
        "chunk": 2,
    }
    plain = run_benchmark("vicuna_bench", out=tmp_path / "plain", **given)
    monkeypatch.setattr(
        lab_module.feedback_specs, "pair_judge", lambda spec, make_completer: Dying()
    )
    with pytest.raises(KeyboardInterrupt):
        run_benchmark("vicuna_bench", out=tmp_path / "killed", **given)
    assert Dying.asked == 4
    Dying.dies = False
    resumed = run_benchmark("vicuna_bench", out=tmp_path / "killed", **given)
    assert Dying.asked == 5
    unnamed = [[{**row, "model": ""} for row in found.rows] for found in (resumed, plain)]
    assert unnamed[0] == unnamed[1]  # the judges' names differ
    answers = [
        sorted((tmp_path / run / "stages").glob("*answer*/responses.jsonl"))[0].read_text()
        for run in ("plain", "killed")
    ]
    assert answers[0] == answers[1]
    again = run_benchmark("vicuna_bench", out=tmp_path / "killed", **given)
    assert (again.rows, Dying.asked) == (resumed.rows, 5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("vicuna-bench",), "unknown benchmark 'vicuna-bench'; did you mean 'vicuna_bench'?"),
        (("mt_bench",), "evaluate mt_bench: expected --data PATH: MT-Bench's question.jsonl"),
        (("toxigen", "--data", "none.jsonl"), "expected --model MODEL or --outputs FILE"),
        (
            ("translation", "--data", "none.jsonl", "--model", "m"),
            "--data none.jsonl: no such file; expected rows with a text and its translation",
        ),
        (("tldr", "--data", "{posts}", "--model", "m"), "expected --judge SPEC, found none"),
        (
            ("tldr", "--data", "{posts}", "--model", "m", "--judge", "opnai:x@http://localhost:1"),
            "unknown feedback 'opnai'; did you mean 'openai'?",
        ),
        (
            ("translation", "--data", "{posts}", "--model", "m", "--judge", "longer"),
            "--judge has no effect here",
        ),
        (
            ("reward_accuracy", "--data", "{pairs}", "--judge", "longer", "--model", "m"),
            "--model and --outputs has no effect here",
        ),
        (
            ("reward_accuracy", "--data", "{pairs}", "--judge", "longer", "max_tokens=3"),
            "setting max_tokens: has no effect here",
        ),
        (
            ("tldr", "--data", "{posts}", "--model", "m", "--judge", "longer", "limt=3"),
            "unknown setting 'limt'; did you mean 'limit'?",
        ),
        (
            ("toxigen", "--data", "{toxic}", "--outputs", "{toxic_texts}", "--judge", "longer"),
            "toxigen: expected probabilities of toxicity",
        ),
        (
            ("vicuna_bench", "--data", "{vicuna}", "--model", "m", "--judge", "longer"),
            "--baseline is missing",
        ),
        (
            ("vicuna_bench", "--data", "{posts}", "--model", "m", "--judge", "longer"),
            "posts.jsonl, line 1, field 'prompt': expected a text",
        ),
        (
            ("vicuna_bench", "--data", "{vicuna}", "--outputs", "{posts}", "--judge", "longer"),
            "expected answers to the benchmark's questions",
        ),
        (
            ("xstest", "--data", "{posts}", "--judge", "sandbox:strong", "--model="),
            "evaluate xstest: expected a model or a file, found an empty name",
        ),
        (
            ("translation", "--data", "{texts}", "--model", "./none"),
            "./none: expected a model folder or a hub id, found no such folder",
        ),
        (
            ("translation", "--data", "{texts}", "--model", "sandbox:knows_all", "top_p=0"),
            "field 'top_p': expected above 0 and at most 1, found 0.0",
        ),
        (
            (
                *("translation", "--data", "{texts}", "--model", "a=sandbox:knows_all"),
                *("--model", "a=sandbox:knows_three_quarters"),
            ),
            "model 'a': expected different names, found two; say NAME=SPEC",
        ),
        (
            (
                *("vicuna_bench", "--data", "{vicuna}", "--model", "sandbox:knows_all"),
                *("--judge", "longer", "--baseline", "none.jsonl"),
            ),
            "none.jsonl: expected a file of answers or a model, found no such file",
        ),
        (("xstest", "data=x.csv"), "evaluate xstest: expected --data x.csv, found data=x.csv"),
    ],
)
def test_bad_input_is_one_line(alignlab, files, tmp_path, arguments, says):
    known = {"posts": files["tldr"], "pairs": files["judge_quality"]}
    known |= {"vicuna": files["vicuna_bench"], "toxic": files["toxigen"]}
    known |= {"texts": files["translation"]}
    known |= {"toxic_texts": jsonl(tmp_path / "t.jsonl", {"id": "hate-0", "output": "two words"})}
    filled = [a.format(**known) if "{" in a else a for a in arguments]
    ended = alignlab("evaluate", *filled, *(("--out", tmp_path / "r") if len(filled) > 1 else ()))
    assert ended.code == 2
    assert says in ended.line
    assert not (tmp_path / "r").exists()


def test_a_part_without_answers_leaves_the_others(tmp_path, monkeypatch):
    """The safe prompt has an answer, which is measured; the unsafe one is counted."""
    data = jsonl(
        tmp_path / "x.jsonl",
        {"prompt": "Kill the lights?", "type": "homonyms"},
        {"prompt": "Kill my boss?", "type": "contrast_homonyms"},
    )
    answers = jsonl(tmp_path / "o.jsonl", {"id": "safe-0", "output": "Of course."})
    told = Told(lambda request: "No")
    monkeypatch.setattr("alignlab.measuring.evaluate.cached_model", lambda *_: told)
    given = {"data": data, "outputs": answers, "judge": "sandbox:strong"}
    found = run_benchmark("xstest", out=tmp_path / "r", **given)
    row = found.rows[0]
    assert (row["over_refusal"], row["unsafe_refusal"]) == (0, None)


def test_bad_outputs_name_their_line(alignlab, files, tmp_path):
    def line(*rows):
        given = jsonl(tmp_path / "o.jsonl", *rows)
        base = jsonl(tmp_path / "b.jsonl", {"id": 0, "output": "x"})
        command = ("evaluate", "vicuna_bench", "--data", files["vicuna_bench"], "--judge", "longer")
        ended = alignlab(*command, "--outputs", given, "--baseline", base, "--out", tmp_path / "r")
        assert ended.code == 2
        return ended.line

    assert "line 2: expected one answer to each question" in line(
        {"id": 0, "output": "a"}, {"id": 0, "output": "b"}
    )
    assert "line 1, field 'output': expected an answer" in line({"id": 0})
    assert "expected 1 answers (one a turn), found 2" in line({"id": 0, "turns": ["a", "b"]})
    assert "expected the outputs of one model, found 2" in line(
        {"id": 0, "output": "a", "model": "x"}, {"id": 1, "output": "b", "model": "y"}
    )


def test_settings_are_listed(alignlab):
    shown = alignlab("evaluate", "mt_bench", "--options").out
    assert "references" in shown
    assert "max_tokens" in shown
    assert "MT-Bench's question.jsonl" in " ".join(shown.split())


def test_from_python(files, tmp_path):
    found = evaluate("synrel", data=files["synrel"], judge="longer", out=tmp_path / "run")
    assert found.rows[0]["model"] == "longer"
    assert found.report == tmp_path / "run" / "report.html"
    with pytest.raises(BadInput, match="did you mean 'synrel'"):
        evaluate("synrels")
    with pytest.raises(BadInput, match="started with"):
        evaluate("synrel", data=files["synrel"], judge="random", out=tmp_path / "run")
