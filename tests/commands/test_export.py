"""`alignlab export`: merged weights that other tools load, and a card of what was recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import alignlab as al
from alignlab import progress
from alignlab.errors import BadInput
from alignlab.models.adapters import LoraConfig, attach
from alignlab.models.load import load, save
from tests.models.gguf_files import tiny_llama, write_gguf
from tests.models.helpers import TEMPLATE, tiny_lm
from tests.recipes.small import SMALL

QUICK = ("lr=1e-3", "batch_size=2", "threads=1", "device=cpu")
IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALIGNLAB_CACHE", str(tmp_path / "cache"))
    progress.use(progress.Silent())
    yield tmp_path
    progress.use(None)


def jsonl(name: str, rows) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def pairs(n: int = 12) -> str:
    rows = [{"prompt": f"Say {i}.", "chosen": f"{i}", "rejected": "no"} for i in range(n)]
    return jsonl("pairs.jsonl", rows)


def card_of(folder) -> tuple[dict, str]:
    _, head, text = Path(folder, "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head), text


def test_a_training_on_a_training_is_traced_to_its_base(alignlab, tmp_path):
    base = save(tiny_lm(), tmp_path / "secret-folder" / "base")
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    rows = [{"prompt": f"Say {i}.", "completion": f"{i}"} for i in range(4)]
    al.train("sft", base, jsonl("sft.jsonl", rows), *QUICK, out="runs/sft")
    al.train("dpo", "runs/sft", f"{pairs()}?test_share=0.4", *QUICK, "objective.beta=0.3",
             out="runs/dpo")  # fmt: skip
    ended = alignlab("export", "runs/dpo", "out", "--dtype", "bfloat16")
    assert ended.code == 0, ended.err
    assert "licence apache-2.0" in ended.out
    model = AutoModelForCausalLM.from_pretrained("out")
    assert model.dtype == torch.bfloat16
    expected = load("runs/dpo").model.lm_head.weight.to(torch.bfloat16)
    assert torch.equal(model.lm_head.weight, expected)
    assert AutoTokenizer.from_pretrained("out").chat_template == TEMPLATE
    assert model.generation_config.eos_token_id[0] == 4  # <|im_end|>
    head, text = card_of("out")
    assert head == {
        "library_name": "transformers", "pipeline_tag": "text-generation",
        "license": "apache-2.0", "tags": ["alignlab"],
    }  # fmt: skip
    assert "| sft | SFT(" in text
    assert "| dpo | DPO(beta=0.3" in text
    assert text.index("| sft |") < text.index("| dpo |")
    assert "trained from base with" in text
    assert "secret-folder" not in text
    assert "pairs.jsonl (" in text
    summary = [
        r for r in _results("runs/dpo") if r["model"] == "model" and r["metric"] == "accuracy"
    ]
    (row,) = summary
    assert f"| {100 * row['value']:.1f}% |" in text
    assert f"| {row['n']} | {row['unscored']} | – |" in text
    assert "licence of the base model" not in text
    assert "`<|im_end|>`" in text


def _results(run):
    file = next(Path(run).rglob("results.jsonl"))
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_studys_card_has_its_figures_with_their_judge():
    study = al.run("self_rewarding", *SMALL, model="sandbox:knows_all", data="sandbox",
                   iterations=1, out="study")  # fmt: skip
    al.export(study, "out")
    _, text = card_of("out")
    rows = [r for r in study.results.rows if (r["model"], r["benchmark"]) == ("M2", "score")]
    row = next(r for r in rows if r["group"] is None)
    line = next(line for line in text.splitlines() if line.startswith("| Score |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert float(cells[2]) == pytest.approx(row["value"], abs=5e-3)
    assert cells[4:] == ["8", "0", "sandbox:oracle"]
    assert text.count("| M1 |") == text.count("| M2 |") == 1
    assert "SFT baseline" not in text
    assert "Agreement of the judge with people: sandbox:oracle" in text
    assert "- The licence of the base model, and so of this one." in text


def test_a_benchmarks_figures_come_in_by_their_run(alignlab):
    al.train("sft", "sandbox:knows_all", jsonl("s.jsonl", [{"prompt": "Hi", "completion": "Ho"}]),
             *QUICK, out="runs/sft")  # fmt: skip
    questions = [
        {"question_id": i, "category": "writing", "turns": ["Write.", "More."]} for i in range(3)
    ]
    judge = "longer"
    bench = ("evaluate", "mt_bench", "--data", jsonl("q.jsonl", questions), "--judge", judge)
    asked = alignlab(*bench, "--model", "runs/sft", "--out", "bench", "max_tokens=8")
    assert asked.code == 0, asked.err
    ended = alignlab("export", "runs/sft", "out", "--evaluations", "bench", "--licence", "mit")
    assert ended.code == 0, ended.err
    head, text = card_of("out")
    assert head["license"] == "mit"
    line = next(line for line in text.splitlines() if line.startswith("| MT-Bench |"))
    assert line.endswith("| longer |")
    renamed = alignlab(*bench, "--model", "other=runs/sft", "--out", "bench2", "max_tokens=8")
    assert renamed.code == 0, renamed.err
    ended = alignlab("export", "runs/sft", "out2", "--evaluations", "bench2")
    assert ended.code == 2
    assert "expected figures of 'sft', found those of" in ended.line
    assert not Path("out2").exists()


def test_models_without_a_run_say_so(tmp_path):
    pytest.importorskip("gguf", reason="pip install 'alignlab[gguf]'")
    file = write_gguf(tmp_path / "tiny.gguf", tiny_llama(), template=TEMPLATE, licence="gemma")
    al.export(file, "out")
    head, text = card_of("out")
    assert head["license"] == "gemma"
    assert text.startswith("\n# tiny\n") or "# tiny" in text
    assert "No record of a training lies with it." in text
    assert "None were measured" in text
    folder = save(tiny_lm(), tmp_path / "base")
    lm = attach(load(folder), LoraConfig(r=2), seed=0)
    for name, parameter in lm.model.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(0.05)
    adapter = save(lm, tmp_path / "adapter", adapter_only=True)
    for number, (model, options) in enumerate([(adapter, {}), (folder, {"adapter": str(adapter)})]):
        al.export(model, f"merged{number}", **options)
        alone = AutoModelForCausalLM.from_pretrained(f"merged{number}").eval()
        torch.testing.assert_close(alone(IDS).logits, lm.model(IDS).logits, rtol=1e-4, atol=1e-4)
        assert not Path(f"merged{number}/adapter_config.json").exists()


def test_a_reward_model_is_exported_as_one():
    folder = save(tiny_lm(), Path("base"))
    al.train("reward_model", folder, pairs(), *QUICK, out="runs/rm")
    al.export("runs/rm", "out")
    assert AutoModelForSequenceClassification.from_pretrained("out").config.num_labels == 1
    head, text = card_of("out")
    assert head["pipeline_tag"] == "text-classification"
    assert "A reward model" in text


def test_a_folder_in_the_way_is_left_as_it_is(tmp_path):
    folder = save(tiny_lm(), tmp_path / "base")
    Path("out").mkdir()
    Path("out/mine.txt").write_text("x")
    with pytest.raises(BadInput, match="expected a new or empty folder"):
        al.export(folder, "out")
    assert [f.name for f in Path("out").iterdir()] == ["mine.txt"]
    with pytest.raises(BadInput, match="expected a model folder"):
        al.export("./nowhere", "new")
    assert not Path("new").exists()


def test_weights_that_are_no_numbers_are_not_exported(place):
    lm = tiny_lm()
    lm.model.lm_head.weight.data[0, 0] = torch.nan
    with pytest.raises(BadInput, match=r"NaN or infinite ones in lm_head\.weight"):
        al.export(str(save(lm, "bad")), "out")
    assert not Path("out").exists()
