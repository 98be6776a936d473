"""Runs append in units, resume from any torn state, and refuse another configuration."""

import json
import os
import random
from pathlib import Path

import pytest

from alignlab.errors import BadInput, RunFailed
from alignlab.files import file_digest, read_json
from alignlab.runs import Run, RunIdentity
from alignlab.types import Count, Usage


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
    assert status["usage"] == {"prompt_tokens": 0, "tokens": 15, "calls": 0}
    assert status["records"] == {"counts.jsonl": 15}


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
