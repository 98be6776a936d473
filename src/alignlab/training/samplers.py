"""Sample the responses of a step: by the model in training, or by an engine that follows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from alignlab.errors import RunFailed
from alignlab.models.load import LanguageModel
from alignlab.training.drawn_rollouts import FILE, DrawnRollouts, Place
from alignlab.training.environment import Checked, Environment, SampledGroup
from alignlab.training.metrics import MetricSums
from alignlab.training.trainer_state import TrainerState
from alignlab.types import Prompt


class _Asked(NamedTuple):
    """Responses that an engine was asked for."""

    place: Place
    prompts: Sequence[Prompt]
    seed: int
    checked: Sequence[Checked] = ()


def whole_model(trainer: TrainerState) -> LanguageModel:
    """Return the model with its weights as they are, whole on the main rank; collective."""
    if not trainer.world.sharded:
        return trainer.lm
    weights = trainer.runner.weights
    return weights.model(trainer.lm, weights.values())


class LocalSampler:
    """Sampler by the model in training, shared by the ranks."""

    def __init__(self, trainer: TrainerState, environment: Environment) -> None:
        self._trainer, self._environment = trainer, environment

    def draw(
        self, place: Place, prompts: Sequence[Prompt], seed: int, metric_sums: MetricSums
    ) -> list[SampledGroup]:
        """Sample responses to prompts, in their order on every rank."""
        trainer, sample = self._trainer, self._environment.sample
        world, weights = trainer.world, trainer.runner.weights
        own = prompts[world.rank :: world.size]
        with weights.sampling(trainer.lm) as lm:
            drawn = sample(lm, own, seed) if own else []
        shares = world.all_gather(drawn)
        return [shares[i % world.size][i // world.size] for i in range(len(prompts))]


class EngineSampler:
    """Sampler by an engine on the main rank, whose draws are committed before they are used.

    Methods are collective: every rank calls them, in the same order.

    Args:
        trainer: training whose steps the weights are counted by.
        environment: environment with the engine.
        ahead: largest staleness of a batch, in steps.
    """

    def __init__(self, trainer: TrainerState, environment: Environment, ahead: int) -> None:
        self._trainer, self._world = trainer, trainer.world
        self._engine = environment.engine
        self._version: int | None = None
        self._asked: _Asked | None = None
        self._begun: tuple[Place, Sequence[Checked]] | None = None
        self._committed: DrawnRollouts | None = None
        if self._world.is_main:
            run, done = trainer.progress.run, trainer.progress.step
            self._committed = DrawnRollouts(trainer.out / FILE, run, done=done, ahead=ahead)

    def draw(
        self, place: Place, prompts: Sequence[Prompt], seed: int, metric_sums: MetricSums
    ) -> list[SampledGroup]:
        """Return committed responses, or responses by the weights as they are, then committed."""
        if self._missing(place):
            self._follow(metric_sums)
            self._on_main(lambda: self._ask(_Asked(place, prompts, seed)))
            self._on_main(self._answered)
        return self._world.broadcast_from_main(lambda: self._file.take(place, prompts))

    def begin(
        self,
        place: Place,
        prompts: Sequence[Prompt],
        seed: int,
        checked: Sequence[Checked],
        metric_sums: MetricSums,
    ) -> None:
        """Ask for a coming step's responses by the weights as they are; they are not waited for.

        Args:
            place: the coming step.
            prompts: its prompts.
            seed: seed of its draws.
            checked: responses of this step that the engine scores again by the same weights.
            metric_sums: sums of the metrics of this step.
        """
        self._begun = place, checked
        if self._missing(place):
            self._follow(metric_sums)
            self._on_main(lambda: self._ask(_Asked(place, prompts, seed, checked)))

    def finish(self) -> tuple[Sequence[Checked], Sequence[tuple[float, ...]]]:
        """Commit the responses asked for; return what was checked, and its log-probabilities."""
        if self._begun is None:
            return (), ()
        (place, checked), self._begun = self._begun, None

        def answered() -> Sequence[tuple[float, ...]]:
            if self._asked is not None:
                self._answered()
            return self._file.checked(place)

        return checked, self._world.broadcast_from_main(answered)

    @property
    def _file(self) -> DrawnRollouts:
        assert self._committed is not None
        return self._committed

    def _on_main(self, work: Callable[[], object]) -> None:
        """Do work on the main rank while the others wait."""
        self._world.broadcast_from_main(lambda: work() and None)

    def _missing(self, place: Place) -> bool:
        return self._world.broadcast_from_main(lambda: not self._file.holds(place))

    def _follow(self, metric_sums: MetricSums) -> None:
        """Let the engine's weights follow the model's."""
        version, began = self._trainer.progress.step, time.perf_counter()
        if self._version == version:
            return
        whole = whole_model(self._trainer)

        def update() -> None:
            assert self._engine is not None
            self._engine.update(version, whole)

        self._on_main(update)
        self._version = version
        metric_sums.add("time/syncing", time.perf_counter() - began, 1)

    def _ask(self, asked: _Asked) -> None:
        assert self._engine is not None
        self._asked = asked
        self._engine.ask(asked.prompts, asked.seed, asked.checked)

    def _answered(self) -> None:
        """Wait for the engine, and commit what it drew."""
        asked, self._asked = self._asked, None
        assert asked is not None
        assert self._engine is not None
        found = self._engine.answer()
        if found.version != self._version:
            raise RunFailed(
                f"rollouts of step {asked.place[0]}: expected draws by the weights of step "
                f"{self._version}, found those of step {found.version}"
            )
        self._file.commit(asked.place, found)
