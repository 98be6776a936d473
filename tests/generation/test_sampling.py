"""Nucleus sampling against hand-computed nuclei, a plain reference and chi-square."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from alignlab.generation import sampling
from alignlab.generation.sampling import choose


def _draw(
    probs: list[float], draws: torch.Tensor, temperature: float, top_p: float
) -> torch.Tensor:
    logits = torch.tensor(probs).log().expand(len(draws), -1)
    return choose(logits, draws, temperature=temperature, top_p=top_p).tokens_B


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
    # Sorted .5 (token 2), .3 (token 0), .2 (token 1); top_p .7 keeps two, renormalised to 5/8, 3/8.
    draws = torch.tensor([0.0, 0.62, 0.63, 0.999], dtype=torch.float64)
    assert _draw([0.3, 0.2, 0.5], draws, 1.0, 0.7).tolist() == [2, 2, 0, 0]
    # Without a nucleus, in the order of the vocabulary.
    draws = torch.tensor([0.0, 0.29, 0.31, 0.49, 0.51, 0.999], dtype=torch.float64)
    assert _draw([0.3, 0.2, 0.5], draws, 1.0, 1.0).tolist() == [0, 0, 1, 1, 2, 2]


def test_greedy_ignores_draws_and_tiny_top_p_is_greedy() -> None:
    draws = torch.tensor([0.0, 0.5, 0.999999], dtype=torch.float64)
    assert _draw([0.3, 0.2, 0.5], draws, 0, 1.0).tolist() == [2, 2, 2]
    assert _draw([0.3, 0.2, 0.5], draws, 1.0, 1e-9).tolist() == [2, 2, 2]


def test_logprob_is_of_the_untempered_model() -> None:
    logits = torch.tensor([[0.3, 0.2, 0.5]]).log()
    chosen = choose(logits, torch.tensor([0.5], dtype=torch.float64), temperature=3.0, top_p=1.0)
    assert chosen.tokens_B.tolist() == [1]
    assert chosen.logprobs_B.item() == pytest.approx(np.log(0.2), abs=1e-6)


@pytest.mark.parametrize(
    ("temperature", "top_p"), [(0.7, 0.9), (1.0, 1.0), (1.5, 0.99), (1.0, 0.5)]
)
@pytest.mark.parametrize("vocabulary", [8, 300])
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
    top_p=st.sampled_from([0.1, 0.5, 0.9, 0.99, 1.0]),
    scale=st.sampled_from([0.0, 0.1, 1.0, 10.0]),
)
def test_prefilter_is_exact(seed: int, vocabulary: int, top_p: float, scale: float) -> None:
    """The filtered path picks a token as likely as the one a full sort picks."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(16, vocabulary)) * scale).float()
    draws = torch.from_numpy(rng.random(16))
    fast = choose(logits, draws, temperature=0.8, top_p=top_p)
    whole = sampling.PREFILTER
    try:
        sampling.PREFILTER = ()
        slow = choose(logits, draws, temperature=0.8, top_p=top_p)
    finally:
        sampling.PREFILTER = whole
    torch.testing.assert_close(fast.logprobs_B, slow.logprobs_B)


def test_extreme_logits() -> None:
    logits = torch.tensor([[-float("inf"), 0.0, -float("inf")], [1e4, -1e4, 0.0]])
    draws = torch.tensor([0.999, 0.999], dtype=torch.float64)
    chosen = choose(logits, draws, temperature=1.0, top_p=1.0)
    assert chosen.tokens_B.tolist() == [1, 0]
    assert chosen.logprobs_B.tolist() == [0.0, 0.0]
