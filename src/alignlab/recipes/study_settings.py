"""Define the settings that every study has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from alignlab import registry
from alignlab.configs import Bounded, NonNegativeInt, PositiveInt, Seed, refuse_one_of_two
from alignlab.context import Hardware
from alignlab.data.roles import DataRoles
from alignlab.errors import BadInput
from alignlab.measuring.measure import MeasureSettings
from alignlab.recipes.judging import AUTO, SELF, judge_note, require_named
from alignlab.specs import drops_bad
from alignlab.stages.checkpoint_selection import SelectSettings
from alignlab.stages.eft import EFTSettings
from alignlab.stages.judges import JudgeSettings
from alignlab.stages.pair import PairSettings
from alignlab.stages.propose import ProposeSettings
from alignlab.stages.rollout import RolloutLesson
from alignlab.stages.sample import SampleSettings
from alignlab.stages.seed import SeedSettings
from alignlab.stages.train import TrainSpec
from alignlab.training.config import LengthSettings, TrainConfig
from alignlab.training.rollout_config import RolloutConfig
from alignlab.training.tracking import Track, require_tracker


@dataclass(frozen=True)
class ObjectiveSettings:
    """Objective of preference training."""

    name: str = "dpo"
    """Name of an objective, as `alignlab list objectives` shows it."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the objective, e.g. objective.options.beta=0.3."""

    def build(self) -> Any:
        """Build the objective with its options; refuse unknown ones."""
        from alignlab.configs import build

        return build(registry.get("objective", self.name), self.options)


@dataclass(frozen=True)
class StudyConfig(Bounded):
    """Settings of every study."""

    model: str = "sandbox:knows_all"
    """Base model M0: folder, run directory, GGUF file, package:NAME, hub id, or sandbox:NAME."""
    data: str | tuple[str, ...] = "sandbox"
    """Seed data: FORMAT:PATH, PATH, or sandbox; `alignlab list data` names the formats. A list
    mixes several, by shares with ?weight=0.3 on each."""
    prompts: NonNegativeInt | str | tuple[str, ...] = 0
    """Prompts for the rounds: a source or several, as in `data`, or a number of the seed data's own
    (0 is all)."""
    test: str | tuple[str, ...] = ""
    """Held-out prompts: a source or several, as in `data`; empty is the seed data's own."""
    out: str = ""
    """Run directory; empty is runs/RECIPE."""
    preset: Literal["auto", "sandbox", "quick", "small", "paper", "poster", "r3"] = "auto"
    """Defaults for a kind of model; auto: sandbox for the sandbox's models, small below a billion
    parameters, else paper (arXiv 2401.10020); quick is the sandbox with fewer prompts and steps,
    poster trains LoRA adapters, r3 follows arXiv 2402.03469."""
    seed: Seed = 0
    """Seed of every random draw."""
    seeds: PositiveInt = 1
    """Repetitions of the study, with seeds seed, seed+1, ..."""
    iterations: PositiveInt = 2
    """Rounds of feedback and preference training; 2 ends with M3."""
    chat_template: str = ""
    """Chat template for models without one, or instead of their own: chatml, plain, zephyr, or a
    file."""
    track: Track = "none"
    """Tracker of metrics in addition to their files: tensorboard, wandb or trackio; needs pip
    install 'alignlab[track]'."""
    keep_weights: bool = True
    """Weights of the study's models stay in the run directory; false deletes a branch's as soon as
    it is measured, and the others at the end. Answers, scores and figures stay."""
    hardware: Hardware = field(default_factory=Hardware)
    corpus: SeedSettings = field(default_factory=SeedSettings)
    eft: EFTSettings = field(default_factory=EFTSettings)
    sft: TrainConfig = field(default_factory=TrainConfig)
    lengths: LengthSettings = field(default_factory=LengthSettings)
    propose: ProposeSettings = field(default_factory=ProposeSettings)
    sample: SampleSettings = field(default_factory=SampleSettings)
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    """Settings of judging by the study's own models."""
    critic: JudgeSettings = field(default_factory=JudgeSettings)
    """Settings of judging by teachers."""
    pairs: PairSettings = field(default_factory=PairSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    preference: TrainConfig = field(default_factory=TrainConfig)
    select: SelectSettings = field(default_factory=SelectSettings)
    measure: MeasureSettings = field(default_factory=MeasureSettings)

    @property
    def roles(self) -> DataRoles:
        """Return the specs of the data by role."""
        prompts = "" if isinstance(self.prompts, int) else self.prompts
        return DataRoles(self.data, prompts, self.test)

    @property
    def most_prompts(self) -> int:
        """Return the maximum number of prompts for the rounds; 0 is all."""
        return self.prompts if isinstance(self.prompts, int) else 0

    @property
    def teacher_specs(self) -> dict[str, str]:
        """Return setting -> spec of teachers and critics other than the study's own models."""
        return {}

    @property
    def measuring_judge(self) -> str:
        """Return the feedback source that measures the study; empty if none does.

        Raises:
            BadInput: no judge is named though a teacher takes part.
        """
        if self.measure.judge != AUTO:
            return self.measure.judge
        require_named(self.teacher_specs)
        return f"expected,prompt={self.judge.prompt}:{SELF}"

    @property
    def measures_truth(self) -> bool:
        """Return whether the measuring judge gives the gold scores."""
        return self.measuring_judge == self.measure.truth

    @property
    def judge_note(self) -> str:
        """Return a sentence on the measuring judge; empty for none."""
        judge = self.measuring_judge
        if judge and self.measures_truth:
            return f"Judged by {judge}, which gives the true scores."
        return judge_note(judge, self.teacher_specs, self.model)

    @property
    def preference_method(self) -> str:
        """Return the name of the preference training: the objective's, or imitation of the best."""
        if self.pairs.keep == "winners":
            return "SFT on the winners"
        return self.objective.name.upper()

    def train_spec(self, objective: Any, config: TrainConfig) -> TrainSpec:
        """Return a training of the study; it drops bad records where the data source does."""
        return TrainSpec(objective, config, self.lengths, drops_bad(self.data))

    def rollout_spec(self, objective: Any, config: RolloutConfig) -> RolloutLesson:
        """Return a rollout training of the study; it drops bad prompts where the data does."""
        return RolloutLesson(
            objective, config, self.lengths.max_prompt_tokens, drop_bad=drops_bad(self.data)
        )

    def refuse_rounds(self, recipe: str) -> None:
        """Refuse rounds and a selection of checkpoints, which a recipe has no use for.

        Raises:
            BadInput: one of them is set.
        """
        if self.iterations != 1 or self.select.prompts:
            raise BadInput(
                f"settings iterations and select.prompts: have no effect in {recipe}; "
                "leave them out"
            )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_tracker(self.track)
        refuse_one_of_two(
            ("select.prompts", self.select.prompts),
            ("preference.validate_every", self.preference.validate_every),
        )
