"""Runs append in units, resume from any torn state, and refuse another configuration."""

import json
import os
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from alignlab.errors import BadInput, RunFailed
from alignlab.files import file_digest, read_json
from alignlab.objectives.ppo import PPO
from alignlab.objectives.sft import SFT
from alignlab.runs import Run, RunIdentity
from alignlab.stages.rollout import RolloutLesson
from alignlab.stages.train import LengthSettings, TrainSpec
from alignlab.training.config import TrainConfig
from alignlab.training.rollout_config import RolloutConfig
from alignlab.types import Count, Unscored, Usage


def start(path: Path, **config: object) -> Run:
    return Run.start(path, RunIdentity("toy", {"beta": 0.1, **config}, (0,)))


def close(run: Run) -> None:
    os.close(run._lock)


def work(run: Run, fail_at: int | None = None) -> bytes:
    """Six units of records, dying before unit `fail_at`."""
    with run.stage("work") as stage:
        file = stage.records("counts", Count)
        for number in range(6):
            if number == fail_at:
                raise RuntimeError("killed")
            if str(number) not in file.units:
                records = [Count("s", f"{number}.{i} é", i) for i in range(number)]
                file.append(str(number), records, Usage(tokens=number))
    return (stage.path / "counts.jsonl").read_bytes()


def test_resumed_run_has_the_bytes_of_an_uninterrupted_one(tmp_path):
    whole = work(start(tmp_path / "whole"))
    for cut in range(6):
        run = start(tmp_path / f"cut{cut}")
        with pytest.raises(RuntimeError):
            work(run, fail_at=cut)
        close(run)
        assert work(start(tmp_path / f"cut{cut}")) == whole


def test_torn_files_are_cut_back_to_the_last_commit(tmp_path):
    whole = work(start(tmp_path / "whole"))
    commits = (tmp_path / "whole/stages/01-work/commits.jsonl").read_bytes()
    draw = random.Random(0)
    for trial in range(20):
        run = start(tmp_path / str(trial))
        folder = tmp_path / str(trial) / "stages/01-work"
        with pytest.raises(RuntimeError):
            work(run, fail_at=0)
        close(run)
        # A kill can leave any prefix of the commits, and records at or beyond what they name.
        kept = commits[: draw.randrange(len(commits) + 1)]
        complete = kept[: kept.rfind(b"\n") + 1]
        committed = json.loads(complete.splitlines()[-1])["end"] if complete else 0
        (folder / "commits.jsonl").write_bytes(kept)
        written = whole[: draw.randrange(committed, len(whole) + 1)]
        (folder / "counts.jsonl").write_bytes(written + b'{"torn": ')
        assert work(start(tmp_path / str(trial))) == whole


def test_status_adds_up_usage_over_sessions(tmp_path):
    run = start(tmp_path / "r")
    with pytest.raises(RuntimeError):
        work(run, fail_at=3)
    close(run)
    work(start(tmp_path / "r"))
    status = read_json(tmp_path / "r/stages/01-work/status.json")
    assert status["state"] == "done"
    assert status["usage"] == {"prompt_tokens": 0, "tokens": 15, "calls": 0, "usd": 0.0}
    assert status["records"] == {"counts.jsonl": 15}


def test_a_stage_inside_another_has_its_time_alone(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("alignlab.run_stage._now", lambda: (now[0], now[0] / 2))
    run = start(tmp_path / "r")
    with run.stage("outer") as outer:
        file = outer.records("counts", Count)
        now[0] += 1
        with run.stage("inner"):
            now[0] += 10
            file.append("0", [Count("s", "x", 1)])  # the outer stage's unit
            now[0] += 20
        failed = run.stage("failed")
        failed.__enter__()
        now[0] += 40
        failed.__exit__(RuntimeError, RuntimeError(), None)
        now[0] += 2
    for name, seconds in {"01-outer": 3.0, "02-inner": 30.0}.items():
        status = read_json(run.path / "stages" / name / "status.json")
        assert (status["seconds"], status["cpu_seconds"]) == (seconds, seconds / 2)


def test_a_done_stage_is_left_alone(tmp_path):
    run = start(tmp_path / "r")
    work(run)
    before = (tmp_path / "r/stages/01-work/status.json").read_bytes()
    close(run)
    work(start(tmp_path / "r"))
    assert (tmp_path / "r/stages/01-work/status.json").read_bytes() == before


def test_another_configuration_is_refused_by_name(tmp_path):
    close(start(tmp_path / "r"))
    with pytest.raises(BadInput, match=r"beta=0.1, found 0.2.*another out="):
        Run.start(tmp_path / "r", RunIdentity("toy", {"beta": 0.2}, (0,)))


def test_a_stage_with_other_settings_is_refused(tmp_path):
    run = start(tmp_path / "r")
    with run.stage("a", config={"n": 1}):
        pass
    close(run)
    with (
        pytest.raises(BadInput, match=r"config.n=1, found 2"),
        start(tmp_path / "r").stage("a", config={"n": 2}),
    ):
        pass


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(BadInput, match="expected a run directory or an empty folder"):
        start(tmp_path)


def test_a_run_in_use_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("alignlab.files.lock.__defaults__", (0.0,))
    run = start(tmp_path / "r")
    with pytest.raises(RunFailed, match="another process is working"):
        start(tmp_path / "r")
    close(run)
    close(start(tmp_path / "r"))


def test_changed_input_files_are_refused(tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text("one")
    run = start(tmp_path / "r")
    run.add_inputs({str(data): file_digest(data)})
    run.add_inputs({str(data): file_digest(data)})
    data.write_text("two")
    with pytest.raises(BadInput, match="changed since this run was started"):
        run.add_inputs({str(data): file_digest(data)})


def test_scopes_number_their_stages_apart(tmp_path):
    run = start(tmp_path / "r")
    branch = run.scope("teacher")
    for one in (run, branch):
        with one.stage("a") as first, one.stage("b") as second:
            pass
        assert (first.path.name, second.path.name) == ("01-a", "02-b")
    assert branch.stage("c").name == "teacher/03-c"


def test_counts_are_gathered_into_the_manifest(tmp_path):
    run = start(tmp_path / "r")
    with run.stage("a") as stage:
        stage.count([Count(stage.name, "prompts", 3, {"too long": 2})])
    run.finish()
    (count,) = read_json(tmp_path / "r/manifest.json")["counts"]
    assert (count["kept"], count["dropped"]) == (3, {"too long": 2})


def test_a_unit_is_written_once(tmp_path):
    run = start(tmp_path / "r")
    with run.stage("a") as stage:
        file = stage.records("counts", Count)
        file.append("u", [])
        with pytest.raises(ValueError, match="already written"):
            file.append("u", [])


def test_a_run_killed_while_it_was_begun_is_begun_again(tmp_path):
    close(start(tmp_path / "r"))
    (tmp_path / "r/config.yaml").rename(tmp_path / "r/.config.yaml.123")
    (tmp_path / "r/events.jsonl").unlink()
    run = start(tmp_path / "r")
    assert (tmp_path / "r/config.yaml").exists()
    close(run)


def test_a_refused_run_or_stage_is_free_for_others_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("alignlab.files.lock.__defaults__", (0.0,))
    run = start(tmp_path / "r")
    with run.stage("a", config={"n": 1}):
        pass
    run.close()
    with pytest.raises(BadInput):
        start(tmp_path / "r", beta=0.2)
    again = start(tmp_path / "r")
    with pytest.raises(BadInput), again.stage("a", config={"n": 2}):
        pass
    with again.scope("s").stage("b"), pytest.raises(RunFailed), again.scope("s").stage("b"):
        pass
    again.close()
    start(tmp_path / "r").close()


def test_a_torn_event_is_cut_off(tmp_path):
    close(start(tmp_path / "r"))
    with (tmp_path / "r/events.jsonl").open("a") as file:
        file.write('{"time": "2026-')
    close(start(tmp_path / "r"))
    events = [json.loads(line) for line in (tmp_path / "r/events.jsonl").open()]
    assert [e["event"] for e in events] == ["start", "resume"]


@pytest.mark.parametrize(
    "spec",
    [
        "openai:m@https://user:hunter2@host/v1",
        "openai:m@https://hunter2@host/v1",
        "openai:m@http://host/v1?api_key=hunter2",
    ],
)
def test_secrets_in_settings_are_refused_and_written_nowhere(tmp_path, spec):
    with pytest.raises(BadInput, match="expected no password or key"):
        start(tmp_path / "run", judge=spec)
    files = [f for f in (tmp_path / "run").rglob("*") if f.is_file()]
    assert not any(b"hunter2" in f.read_bytes() for f in files)
    close(start(tmp_path / "run", judge="openai:m@http://host:8000/v1?budget_usd=1"))
    several = "ensemble:llm:openai:a@http://host|llm:openai:b@http://host:1,openai:c@https://host"
    close(start(tmp_path / "several", judge=several))


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5


@dataclass(frozen=True)
class Settings:
    n: int = 1
    inner: Inner = field(default_factory=Inner)
    name: str = "a"


@pytest.mark.parametrize(
    ("now", "refused"),
    [
        (Settings(), None),
        (Settings(name="b"), r"config.name=None, found 'b'"),
        (Settings(inner=Inner(0.25)), r"config.inner.rate=None, found 0.25"),
        (Settings(n=2), r"config.n=1, found 2"),
    ],
)
def test_settings_that_an_earlier_version_lacked_must_hold_their_defaults(tmp_path, now, refused):
    run = start(tmp_path / "r")
    with run.stage("a", config={"n": 1, "inner": {}}):
        pass
    close(run)
    run = start(tmp_path / "r")
    if refused is None:
        with run.stage("a", config=now) as stage:
            assert stage.done
        return
    with pytest.raises(BadInput, match=refused), run.stage("a", config=now):
        pass


def test_a_folder_of_another_command_is_named_without_its_settings(tmp_path):
    close(Run.start(tmp_path / "r", RunIdentity("generate", {"model": "m", "n": 1}, (0,))))
    with pytest.raises(BadInput) as error:
        Run.start(tmp_path / "r", RunIdentity("judge", {"judge": "longer"}, (0,)))
    assert str(error.value) == (
        f"{tmp_path}/r: expected a run of judge, found one of generate; use another out="
    )
    # A renamed recipe goes on.
    close(Run.start(tmp_path / "r", RunIdentity("sample", {"model": "m", "n": 1}, (0,))))


def test_every_setting_that_changed_is_listed_with_the_users_own_first(tmp_path):
    close(start(tmp_path / "r", sft={"lr": 1, "epochs": 2}, zeta=5, alpha=1))
    now = {"beta": 0.1, "sft": {"lr": 1, "epochs": 3}, "zeta": 6, "alpha": 2, "new": 7}
    with pytest.raises(BadInput) as error:
        Run.start(tmp_path / "r", RunIdentity("toy", now, (0,), given=("zeta", "sft", "other")))
    assert str(error.value) == (
        f"{tmp_path}/r: this run was started with sft.epochs=2, found 3, zeta=5, found 6; "
        "not chosen in this call: alpha=1, found 2, new=None, found 7; "
        "use another out= for another configuration"
    )
    with pytest.raises(BadInput, match=r"with alpha=1, found 2, new=None, found 7, sft.ep"):
        Run.start(tmp_path / "r", RunIdentity("toy", now, (0,)))
    del now["new"]
    with pytest.raises(BadInput, match=r"; add alpha=1 sft.epochs=2 zeta=5 to go on, or use"):
        Run.start(tmp_path / "r", RunIdentity("toy", now, (0,), given=("beta",)))


def test_a_training_of_an_earlier_version_is_resumed(tmp_path):
    """Version 0.1 knew neither `save_dtype` nor `drop_bad`, in either kind of training."""
    lengths, objective = LengthSettings(), SFT()
    specs = [
        TrainSpec(objective, TrainConfig(), lengths),
        RolloutLesson(PPO(), RolloutConfig()),
    ]
    for name, spec in zip(("sft", "ppo"), specs, strict=True):
        run = start(tmp_path / name)
        with run.stage("m1", config=spec) as stage:
            pass
        close(run)
        written = read_json(stage.path / "config.json")
        assert {"save_dtype", "drop_bad"} <= written["config"].keys()
        for new in ("save_dtype", "drop_bad"):
            del written["config"][new]
        # Nothing of version 0.1 has a hash.
        (stage.path / "config.json").write_text(json.dumps(written))
        (stage.path / "status.json").write_text('{"state": "done", "records": {}}')
        with start(tmp_path / name).stage("m1", config=spec) as stage:
            assert stage.done
        other = replace(spec, save_dtype="bfloat16")
        stage = Run(tmp_path / name).stage("m1", config=other)
        with pytest.raises(BadInput, match=r"config.save_dtype=None, found 'bfloat16'"), stage:
            pass


def test_a_setting_that_is_gone_is_a_change(tmp_path):
    run = start(tmp_path / "r")
    with run.stage("a", config={"rate": 0.5, "old": 3}):
        pass
    close(run)
    run = start(tmp_path / "r")
    with pytest.raises(BadInput, match=r"config.old=3, found None"), run.stage("a", config=Inner()):
        pass


def doubled(run, fail_at=None):
    """A stage over 7 items in chunks of 3; threes are lost."""
    seen = []

    def work(some):
        if fail_at in some:
            raise RuntimeError
        seen.append(list(some))
        return [Unscored("a three") if n == 3 else Count("", "n", 2 * n) for n in some]

    with run.stage("map") as stage:
        found = stage.map("numbers", Count, [1, 2, 3, 4, 5, 6, 7], work, chunk=3, title="doubling")
        return [c.kept for c in found], stage.lost(), seen


def test_chunks_are_done_once_and_what_is_lost_is_counted_once(tmp_path):
    run = start(tmp_path / "r")
    with pytest.raises(RuntimeError):
        doubled(run, fail_at=4)
    close(run)
    found, lost, seen = doubled(start(tmp_path / "r"))
    assert found == [2, 4, 8, 10, 12, 14]
    assert lost == {"a three": 1}
    assert seen == [[4, 5, 6], [7]]


def test_a_chunk_whose_loss_was_counted_before_a_kill_is_counted_once(tmp_path):
    run = start(tmp_path / "r")
    assert doubled(run)[1] == {"a three": 1}
    close(run)
    folder = tmp_path / "r/stages/01-map"
    lines = (folder / "commits.jsonl").read_text().splitlines(keepends=True)
    assert [json.loads(line)["file"] for line in lines[:2]] == ["lost.jsonl", "numbers.jsonl"]
    (folder / "commits.jsonl").write_text(lines[0])
    (folder / "status.json").write_text('{"state": "running"}')
    found, lost, seen = doubled(start(tmp_path / "r"))
    assert (len(found), lost, len(seen)) == (6, {"a three": 1}, 3)


def test_work_that_is_done_once_is_not_done_again(tmp_path):
    for _ in range(2):
        run = start(tmp_path / "r")
        with run.stage("once") as stage:
            found = stage.once("n", Count, lambda: [Count("", "n", 1)], title="counting")
            assert [c.kept for c in found] == [1]
        close(run)
    with start(tmp_path / "r").stage("once") as stage:
        stage.once("n", Count, lambda: pytest.fail("done again"), title="counting")
