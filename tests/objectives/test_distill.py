"""Distillation by hand, at its limits, against trl, through both forward passes, and refusals."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import chain

import pytest
import torch
from safetensors.torch import load_file

from alignlab.errors import BadInput
from alignlab.models.load import save
from alignlab.models.logits import LogitScorer
from alignlab.objectives import distill
from alignlab.objectives.distill import Distill, TeacherLogits, generalised_jsd_R
from alignlab.training.budget import TokenBudget
from alignlab.training.config import TrainConfig
from alignlab.training.inputs import inputs_for
from alignlab.training.loop import train
from alignlab.training.teacher import refuse_other_tokenizer
from tests.models.helpers import random_groups, tiny_lm, tiny_model, tiny_tokenizer
from tests.objectives.test_limits import gradcheck

F64 = torch.float64


def logits(*rows):
    """Logits of given probabilities."""
    return torch.tensor(rows, dtype=F64).log()


def of(student_RV, teacher_RV, lengths):
    groups = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    known = min(student_RV.shape[1], teacher_RV.shape[1])
    return TeacherLogits(
        lambda part: student_RV[part], lambda part: teacher_RV[part], known, groups,
        torch.tensor(lengths, dtype=F64),
    )  # fmt: skip


def drawn(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=F64) * 2


STUDENT, TEACHER = logits([0.5, 0.5]), logits([0.9, 0.1])


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (0.0, 0.9 * math.log(1.8) + 0.1 * math.log(0.2)),
        (1.0, 0.5 * math.log(5 / 9) + 0.5 * math.log(5)),
        # The mixtures are (0.7, 0.3) and (0.6, 0.4).
        (0.5, 0.5 * (0.9 * math.log(9 / 7) + 0.1 * math.log(1 / 3))
         + 0.5 * (0.5 * math.log(5 / 7) + 0.5 * math.log(5 / 3))),
        (0.25, 0.25 * (0.9 * math.log(1.5) + 0.1 * math.log(0.25))
         + 0.75 * (0.5 * math.log(5 / 6) + 0.5 * math.log(5 / 4))),
    ],
)  # fmt: skip
def test_by_hand(beta, expected):
    output = Distill(beta=beta)(of(STUDENT, TEACHER, [1]))
    assert output.loss_B.item() == pytest.approx(expected, abs=1e-9)
    assert output.weight_B.tolist() == [1.0]


def test_a_temperature_softens_both():
    # Square roots of the probabilities, normalised: (3, 1) / 4 of (0.9, 0.1).
    half = generalised_jsd_R(STUDENT, TEACHER, beta=0.0, temperature=2.0)
    assert half.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_loss_is_the_mean_over_a_groups_tokens():
    student, teacher = drawn(5, 7, 1), drawn(5, 7, 2)
    rows = generalised_jsd_R(student, teacher, beta=0.3, temperature=1.0)
    output = Distill(beta=0.3)(of(student, teacher, [2, 3]))
    expected = [rows[:2].mean().item(), rows[2:].mean().item()]
    assert output.loss_B.tolist() == pytest.approx(expected)
    assert output.weight_B.tolist() == [2.0, 3.0]


def test_limits():
    student, teacher = drawn(6, 5, 3), drawn(6, 5, 4)

    def jsd(one, other, beta):
        return generalised_jsd_R(one, other, beta=beta, temperature=1.0)

    for beta in (0.0, 0.2, 0.5, 1.0):
        assert jsd(student, student + 3.0, beta).tolist() == pytest.approx([0.0] * 6, abs=1e-12)
        swapped = jsd(teacher, student, 1 - beta)
        assert jsd(student, teacher, beta).tolist() == pytest.approx(swapped.tolist())
    # Near 0 it is beta times the forward KL, near 1 (1 - beta) times the reverse KL.
    forward, reverse = jsd(student, teacher, 0.0), jsd(student, teacher, 1.0)
    small = 1e-6
    assert (jsd(student, teacher, small) / small).tolist() == pytest.approx(
        forward.tolist(), rel=1e-3
    )
    assert (jsd(student, teacher, 1 - small) / small).tolist() == pytest.approx(
        reverse.tolist(), rel=1e-3
    )
    assert (jsd(student, teacher, 0.5) <= math.log(2)).all()


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_gradients(beta):
    teacher = drawn(4, 5, 5)
    gradcheck(
        lambda student: Distill(beta=beta, temperature=1.5)(of(student, teacher, [1, 3])).loss_B,
        drawn(4, 5, 6).requires_grad_(),
    )


def test_parts_are_as_the_whole(monkeypatch):
    student, teacher = drawn(7, 5, 7).requires_grad_(), drawn(7, 6, 8)  # one padded token more
    whole = Distill()(of(student, teacher, [3, 4])).loss_B
    (expected,) = torch.autograd.grad(whole.sum(), student)
    monkeypatch.setattr(distill, "PART_ELEMENTS", 10)
    parts = Distill()(of(student, teacher, [3, 4])).loss_B
    (found,) = torch.autograd.grad(parts.sum(), student)
    assert parts.tolist() == pytest.approx(whole.tolist(), abs=1e-12)
    assert torch.allclose(found, expected, atol=1e-12)


def made_by_training(objective, student, teacher, groups, padded=None):
    inputs = inputs_for(objective)(
        LogitScorer(student, padded_because=padded), groups, None, TokenBudget(10_000)
    )
    inputs.teacher = LogitScorer(teacher)
    return inputs.of(range(len(groups)), None)


@pytest.mark.parametrize("padded", [None, "for this test"])
@pytest.mark.parametrize(("beta", "temperature"), [(0.0, 1.0), (0.4, 0.7), (0.5, 1.0), (1.0, 2.0)])
def test_loss_and_gradients_equal_trls(beta, temperature, padded):
    pytest.importorskip("trl")
    from trl.experimental.gkd import GKDTrainer

    student, theirs, teacher = (tiny_model(seed=seed, scale=2.0) for seed in (0, 0, 1))
    groups = random_groups(6, (1,), seed=11)
    objective = Distill(beta=beta, temperature=temperature)
    with made_by_training(objective, student, teacher, groups, padded) as given:
        output = objective(given)
        ours = (output.loss_B * output.weight_B).sum() / output.weight_B.sum()
        ours.backward()
    rows, labels = [], []
    longest = max(g.longest for g in groups)
    for g in groups:
        sequence = [*g.prompt_T, *g.responses[0]]
        filling = [0] * (longest - len(sequence))
        rows.append(sequence + filling)
        unread = [-100] * len(g.prompt_T)
        labels.append([*unread, *g.responses[0], *(-100 for _ in filling)])
    tokens, label = torch.tensor(rows), torch.tensor(labels)
    with torch.no_grad():
        taught = teacher(tokens).logits[:, :-1]
    expected = GKDTrainer.generalized_jsd_loss(
        theirs(tokens).logits[:, :-1], taught, label[:, 1:], beta=beta, temperature=temperature
    )
    expected.backward()
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
    known = dict(theirs.named_parameters())
    for name, parameter in student.named_parameters():
        gradient = known[name].grad
        assert (parameter.grad - gradient).norm() <= 1e-4 * gradient.norm() + 1e-9, name


def test_soft_caps_are_seen():
    groups = random_groups(3, (1,), seed=4)
    model = tiny_model("gemma2")
    with LogitScorer(model).scored(groups) as packed, torch.no_grad():
        found = packed.logits(slice(0, 100))
    with LogitScorer(model, padded_because="for this test").scored(groups) as padded:
        assert torch.allclose(found, padded.logits(slice(0, 100)), atol=1e-3)


@pytest.fixture
def teacher(tmp_path):
    lm = tiny_lm(seed=1, scale=2.0)
    save(lm, tmp_path / "teacher")
    return str(tmp_path / "teacher")


CONFIG = TrainConfig(lr=3e-3, epochs=6, batch_size=4, log_every=1, seed=5)


def test_training_draws_the_student_to_its_teacher(tmp_path, teacher):
    student, groups = tiny_lm(seed=0, scale=2.0), random_groups(8, (1,), seed=3)
    before = dict(tiny_lm(seed=1, scale=2.0).model.named_parameters())
    result = train(student, Distill(teacher=teacher), groups, CONFIG, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").open()]
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert load_file(f"{result.lm.path}/model.safetensors")
    kept = load_file(f"{teacher}/model.safetensors")
    assert all(torch.equal(kept[name], before[name]) for name in kept)
    # A model that is its own teacher has nothing to learn.
    itself = tiny_lm(seed=1, scale=2.0)
    train(itself, Distill(teacher=teacher), groups, CONFIG, tmp_path / "itself")
    first = json.loads((tmp_path / "itself/metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(0.0, abs=1e-6)


def test_a_killed_training_ends_as_another(tmp_path, teacher):
    groups, config = random_groups(8, (1,), seed=3), replace(CONFIG, save_every=2)

    def trained(out, **options):
        return train(tiny_lm(), Distill(teacher=teacher), groups, config, tmp_path / out, **options)

    whole = trained("whole")

    def stop(metrics, step, total):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            tiny_lm(seed=0), Distill(teacher=teacher), groups, config, tmp_path / "k", on_step=stop
        )
    rest = train(tiny_lm(seed=0), Distill(teacher=teacher), groups, config, tmp_path / "k")
    assert rest.resumed_from == 4
    one, other = (load_file(f"{r.lm.path}/model.safetensors") for r in (whole, rest))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_tokenizer_is_refused(tmp_path):
    refuse_other_tokenizer(tiny_tokenizer(), tiny_tokenizer(template=None), "equal")
    other = tiny_tokenizer()
    other.add_tokens(["brand new"])
    for own, its in ((tiny_tokenizer(), other), (other, tiny_tokenizer())):
        with pytest.raises(BadInput, match=r"teacher T: .*brand new"):
            refuse_other_tokenizer(own, its, "T")
    lm = tiny_lm(seed=1)
    lm.tokenizer.add_tokens(["brand new"])
    save(lm, tmp_path / "teacher")
    objective, out = Distill(teacher=str(tmp_path / "teacher")), tmp_path / "out"
    with pytest.raises(BadInput, match="expected the student's tokenizer"):
        train(tiny_lm(), objective, random_groups(4, (1,)), CONFIG, out)
    with pytest.raises(BadInput, match="distill: teacher: expected a model"):
        train(tiny_lm(), Distill(), random_groups(4, (1,)), CONFIG, out)
    assert not list(chain(out.glob("*")))
