"""Lines on the making of a study's models: the run's counts, not the plan's."""

from types import SimpleNamespace
from typing import Any

from alignlab.commands.run import made_in


def seed(**made: str) -> Any:
    return SimpleNamespace(made=made)


def test_counts_are_those_of_the_run():
    planned = {"M1": "the base model", "M2": "M1 after DPO on 388 pairs, NLL weight 1"}
    found = made_in(
        [seed(M1="the base model", M2="M1 after DPO on 256 pairs, NLL weight 1")], planned
    )
    assert found == {"M1": "the base model", "M2": "M1 after DPO on 256 pairs, NLL weight 1"}


def test_seeds_that_differ_give_a_range():
    planned = {"M2": "M1 after DPO on 388 pairs, NLL weight 0.5"}
    texts = [f"M1 after DPO on {n} pairs, NLL weight 0.5" for n in (1010, 256, 300)]
    found = made_in([seed(M2=text) for text in texts], planned)
    assert found == {"M2": "M1 after DPO on 256 to 1010 pairs, NLL weight 0.5"}


def test_other_differences_show_the_first_seed_and_unmeasured_models_the_plan():
    planned = {"M2": "plan", "M3": "as planned"}
    found = made_in([seed(M2="M1 after SFT"), seed(M2="M1 after DPO")], planned)
    assert found == {"M2": "M1 after SFT", "M3": "as planned"}


def test_small_numbers_are_read_whole():
    texts = [f"M1 after SFT, learning rate {rate}" for rate in ("5e-05", "1e-05")]
    found = made_in([seed(M2=text) for text in texts], {"M2": "plan"})
    assert found == {"M2": "M1 after SFT, learning rate 1e-05 to 5e-05"}
