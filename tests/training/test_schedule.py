from __future__ import annotations

import hashlib

import pytest

from alignlab.training.config import TrainConfig
from alignlab.training.schedule import derived_seed, epoch_order, learning_rate, steps_per_epoch


def rates(total, **settings):
    config = TrainConfig(lr=1.0, **settings)
    return [learning_rate(step, total, config) for step in range(total)]


def test_cosine_goes_from_peak_to_floor():
    found = rates(5, min_lr_ratio=0.2)
    assert found == pytest.approx([1.0, 0.8828427, 0.6, 0.3171573, 0.2])


def test_linear_and_constant_with_warm_up():
    assert rates(6, schedule="linear", min_lr_ratio=0.0, warmup_ratio=1 / 3) == pytest.approx(
        [0.5, 1.0, 1.0, 2 / 3, 1 / 3, 0.0]
    )
    assert rates(4, schedule="constant", warmup_ratio=0.5) == [0.5, 1.0, 1.0, 1.0]


def test_every_rate_is_in_units_of_the_peak():
    for settings in ({"warmup_ratio": 0.5}, {"schedule": "linear", "warmup_ratio": 0.25}, {}):
        config = TrainConfig(lr=2e-6, **settings)
        found = [learning_rate(step, 8, config) for step in range(8)]
        assert found == pytest.approx([2e-6 * one for one in rates(8, **settings)], rel=1e-9)


def test_one_step_has_the_peak_rate():
    assert rates(1) == [1.0]


def test_every_epoch_sees_every_group_in_its_own_order():
    config = TrainConfig(batch_size=4, seed=3)
    first, second = (epoch_order(10, config, epoch) for epoch in (0, 1))
    assert [len(step) for step in first] == [4, 4, 2]
    assert len(first) == steps_per_epoch(10, config)
    assert sorted(i for step in first for i in step) == list(range(10))
    assert sorted(i for step in second for i in step) == list(range(10))
    assert first != second
    assert first == epoch_order(10, config, 0)
    assert first != epoch_order(10, TrainConfig(batch_size=4, seed=4), 0)


def test_seeds_stay_what_they_are():
    """Half of the first eight bytes of SHA-256, the lowest first: a run of old draws the same."""
    first = hashlib.sha256(b"order|3|0").digest()
    by_hand = sum(byte * 256**i for i, byte in enumerate(first[:8])) // 2
    assert derived_seed("order", 3, 0) == by_hand
