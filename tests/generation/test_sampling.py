"""Nucleus sampling against hand-computed nuclei, a plain reference and chi-square."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from alignlab.generation import sampling
from alignlab.generation.sampling import sample_tokens


def _draw(
    probs: list[float], draws: torch.Tensor, temperature: float, top_p: float
) -> torch.Tensor:
    logits = torch.tensor(probs).log().expand(len(draws), -1)
    return sample_tokens(logits, draws, temperature=temperature, top_p=top_p).tokens_B


def _nucleus(probs: np.ndarray, temperature: float, top_p: float) -> np.ndarray:
    """The nucleus distribution, written plainly."""
    tempered = probs ** (1 / temperature)
    tempered /= tempered.sum()
    kept = np.zeros_like(tempered)
    mass = 0.0
    for token in np.argsort(-tempered, kind="stable"):
        kept[token] = tempered[token]
        mass += tempered[token]
        if mass >= top_p:
            break
    return kept / kept.sum()


def test_by_hand() -> None:
    # In the order of the vocabulary; .7 of the mass keeps tokens 2 and 0, and the draw .31, which
    # falls on token 1, is drawn again from these.
    draws = torch.tensor([0.0, 0.29, 0.31, 0.51, 0.999], dtype=torch.float64)
    tokens = _draw([0.3, 0.2, 0.5], draws, 1.0, 0.7).tolist()
    assert tokens[:2] + tokens[3:] == [0, 0, 2, 2]
    assert tokens[2] in (0, 2)
    draws = torch.tensor([0.0, 0.29, 0.31, 0.49, 0.51, 0.999], dtype=torch.float64)
    assert _draw([0.3, 0.2, 0.5], draws, 1.0, 1.0).tolist() == [0, 0, 1, 1, 2, 2]


def test_equal_tokens_enter_the_nucleus_in_the_order_of_the_vocabulary() -> None:
    draws = torch.from_numpy(np.random.default_rng(2).random(4000))
    tokens = _draw([0.1] * 10, draws, 1.0, 0.35).numpy()
    counts = np.bincount(tokens, minlength=10)
    assert counts[4:].sum() == 0
    assert chisquare(counts[:4]).pvalue > 1e-3


def test_greedy_ignores_draws_and_tiny_top_p_is_greedy() -> None:
    draws = torch.tensor([0.0, 0.5, 0.999999], dtype=torch.float64)
    assert _draw([0.3, 0.2, 0.5], draws, 0, 1.0).tolist() == [2, 2, 2]
    assert _draw([0.3, 0.2, 0.5], draws, 1.0, 1e-9).tolist() == [2, 2, 2]


def test_logprob_is_of_the_untempered_model() -> None:
    logits = torch.tensor([[0.3, 0.2, 0.5]]).log()
    chosen = sample_tokens(
        logits, torch.tensor([0.5], dtype=torch.float64), temperature=3.0, top_p=1.0
    )
    assert chosen.tokens_B.tolist() == [1]
    assert chosen.logprobs_B.item() == pytest.approx(np.log(0.2), abs=1e-6)


@pytest.mark.parametrize(
    ("vocabulary", "temperature", "top_p"),
    [
        *((v, *settings) for v in (8, 300) for settings in ((0.7, 0.9), (1.0, 1.0), (1.5, 0.99))),
        (8, 1.0, 0.5),
        (300, 1.0, 0.5),
        (300, 1.0, 0.1),
        (1500, 0.7, 0.9),
    ],
)
def test_chi_square(vocabulary: int, temperature: float, top_p: float) -> None:
    rng = np.random.default_rng(5)
    probs = rng.dirichlet(np.full(vocabulary, 0.5))
    draws = torch.from_numpy(rng.random(40_000))
    tokens = _draw(probs.tolist(), draws, temperature, top_p).numpy()
    want = _nucleus(probs, temperature, top_p)
    counts = np.bincount(tokens, minlength=vocabulary)
    assert counts[want == 0].sum() == 0
    often = want * len(draws) >= 5
    observed = np.append(counts[often], counts[~often].sum())
    expected = np.append(want[often], want[~often].sum()) * len(draws)
    held = expected > 1e-6
    assert held.sum() > 1
    assert chisquare(observed[held], expected[held] * 40_000 / expected[held].sum()).pvalue > 1e-3


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    vocabulary=st.sampled_from([2, 63, 64, 65, 200, 3000]),
    top_p=st.sampled_from([1e-6, 0.1, 0.5, 0.9, 0.99]),
    scale=st.sampled_from([0.0, 0.1, 1.0, 10.0]),
)
def test_no_token_outside_the_nucleus(
    seed: int, vocabulary: int, top_p: float, scale: float
) -> None:
    """Logits in bfloat16, of which many are equal, against a plain sort in float64."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(16, vocabulary)) * scale).bfloat16()
    draws = torch.from_numpy(rng.random(16))
    tokens = sample_tokens(logits, draws, temperature=0.8, top_p=top_p).tokens_B
    probs = (logits.double() / 0.8).softmax(dim=-1)
    order = probs.argsort(dim=-1, descending=True, stable=True)
    sorted_probs = probs.gather(-1, order)
    before = sorted_probs.cumsum(dim=-1) - sorted_probs
    place = (order == tokens[:, None]).nonzero()[:, 1]
    assert (before.gather(-1, place[:, None])[:, 0] < top_p + 1e-5).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    vocabulary=st.sampled_from([1, 5, 63, 64, 65, 128, 1000]),
    zeros=st.sampled_from([0.0, 0.5, 0.95]),
)
def test_draw_is_the_inverse_of_the_cumulative_weight(
    seed: int, vocabulary: int, zeros: float
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.random((32, vocabulary)) * (rng.random((32, vocabulary)) >= zeros)
    weights[:, rng.integers(vocabulary)] = 0.3
    draws = np.where(rng.random(32) < 0.2, 1 - 2**-53, rng.random(32))
    tokens = sampling.draw(torch.from_numpy(weights), torch.from_numpy(draws)).numpy()
    mass = weights.cumsum(axis=1)
    picked = np.take_along_axis(weights, tokens[:, None], 1)[:, 0]
    upto = np.take_along_axis(mass, tokens[:, None], 1)[:, 0]
    drawn = draws * mass[:, -1]
    assert (picked > 0).all()
    assert (drawn <= upto + 1e-9).all()
    assert (drawn >= upto - picked - 1e-9).all()


def test_rows_are_chosen_alike_in_parts_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    logits = torch.from_numpy(rng.normal(size=(37, 100))).float()
    draws = torch.from_numpy(rng.random(37))
    whole = sample_tokens(logits, draws, temperature=0.7, top_p=0.6)
    monkeypatch.setattr(sampling, "CACHE_ELEMENTS", 500)
    parts = sample_tokens(logits, draws, temperature=0.7, top_p=0.6)
    assert parts.tokens_B.tolist() == whole.tokens_B.tolist()
    torch.testing.assert_close(parts.logprobs_B, whole.logprobs_B)


def test_draws_made_of_draws_are_uniform_and_unlike_them() -> None:
    draws = torch.from_numpy(np.random.default_rng(6).random(20_000))
    mixed = sampling._mixed(draws)
    assert 0 <= mixed.min() <= mixed.max() < 1
    assert chisquare(np.histogram(mixed.numpy(), bins=50, range=(0, 1))[0]).pvalue > 1e-3
    assert abs(np.corrcoef(draws.numpy(), mixed.numpy())[0, 1]) < 0.03
    assert sampling._mixed(torch.zeros(1, dtype=torch.float64)) > 0


def test_extreme_logits() -> None:
    logits = torch.tensor([[-float("inf"), 0.0, -float("inf")], [1e4, -1e4, 0.0]])
    draws = torch.tensor([0.999, 0.999], dtype=torch.float64)
    chosen = sample_tokens(logits, draws, temperature=1.0, top_p=1.0)
    assert chosen.tokens_B.tolist() == [1, 0]
    assert chosen.logprobs_B.tolist() == [0.0, 0.0]
