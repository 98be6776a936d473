"""alignlab: train language models from feedback of every kind, and measure what each step did.

    import alignlab as al

    data = al.load_data("prefs.jsonl", test_share=0.1)
    run = al.train(al.DPO(beta=0.1), "./my-model", data, lr=1e-6)
    score = al.evaluate("mt_bench", run.model, data="question.jsonl", judge="openai:gpt-4@URL")

Functions have the names of the commands; results have `.to_frame()`, `.plot()` and show
themselves in a notebook. torch and transformers are imported when a function needs them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from alignlab import _old_names as _old_names

if TYPE_CHECKING:
    from alignlab.api.data import Data as Data
    from alignlab.api.data import load_data as load_data
    from alignlab.api.evaluating import evaluate as evaluate
    from alignlab.api.exporting import export as export
    from alignlab.api.generating import generate as generate
    from alignlab.api.judging import Judge as Judge
    from alignlab.api.judging import judge as judge
    from alignlab.api.judging import judge_card as judge_card
    from alignlab.api.judging import reward as reward
    from alignlab.api.models import Model as Model
    from alignlab.api.models import load_model as load_model
    from alignlab.api.results import Result as Result
    from alignlab.api.studies import check as check
    from alignlab.api.studies import compare as compare
    from alignlab.api.studies import report as report
    from alignlab.api.studies import run as run
    from alignlab.api.training import train as train
    from alignlab.commands.annotate import annotate as annotate
    from alignlab.commands.doctor import doctor as doctor
    from alignlab.commands.view import view as view
    from alignlab.errors import BadInput as BadInput
    from alignlab.errors import RunFailed as RunFailed
    from alignlab.objectives.cpo import CPO as CPO
    from alignlab.objectives.distill import Distill as Distill
    from alignlab.objectives.dpo import DPO as DPO
    from alignlab.objectives.dpo_pro import DPOPRO as DPOPRO
    from alignlab.objectives.grpo import GRPO as GRPO
    from alignlab.objectives.hinge import Hinge as Hinge
    from alignlab.objectives.ipo import IPO as IPO
    from alignlab.objectives.joint_feedback import JointFeedback as JointFeedback
    from alignlab.objectives.kto import KTO as KTO
    from alignlab.objectives.ld_dpo import LDDPO as LDDPO
    from alignlab.objectives.orpo import ORPO as ORPO
    from alignlab.objectives.ppo import PPO as PPO
    from alignlab.objectives.preferred_ft import PreferredFT as PreferredFT
    from alignlab.objectives.pro import PRO as PRO
    from alignlab.objectives.reinforce import Reinforce as Reinforce
    from alignlab.objectives.reward_conditioned import RewardConditioned as RewardConditioned
    from alignlab.objectives.reward_model import RewardModel as RewardModel
    from alignlab.objectives.rloo import RLOO as RLOO
    from alignlab.objectives.rrhf import RRHF as RRHF
    from alignlab.objectives.sft import SFT as SFT
    from alignlab.objectives.simpo import SimPO as SimPO
    from alignlab.objectives.slic import SLiC as SLiC
    from alignlab.objectives.wpo import WPO as WPO
    from alignlab.types import Checkpoint as Checkpoint

    __version__: str


class _CallableModule(ModuleType):
    """Package `alignlab.report`, callable as the function of that name."""

    def __call__(self, *runs: Any) -> Any:
        return import_module("alignlab.api.studies").report(*runs)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # The import system puts the package where the function is.
        if name == "report" and isinstance(value, ModuleType):
            value.__class__ = _CallableModule
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted(_public())


sys.modules[__name__].__class__ = _Package

if not TYPE_CHECKING:  # a type checker is to know every name, and no other

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            return import_module("importlib.metadata").version("alignlab")
        if name == "__all__":
            return sorted(_public())
        origin = _public().get(name)
        if origin is None or name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(origin.module), origin.name)


def _public() -> dict[str, Any]:
    """Return name -> where it is defined, from the imports for type checkers."""
    source = import_module("alignlab.source")

    found = source.read("alignlab").imported.items()
    return {name: origin for name, origin in found if origin.module.startswith("alignlab.")}
