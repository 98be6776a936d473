"""Diagnose the data, model and judges of a study or a training, on samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeVar

from alignlab import progress, registry, seeds
from alignlab.context import Hardware, RunContext, resolve_model
from alignlab.data.roles import load_roles
from alignlab.diagnosis.judge_chance import judge_chance
from alignlab.diagnosis.labels import duplicates, labels, overlap
from alignlab.diagnosis.leakage import leakage, pairs_of
from alignlab.diagnosis.off_policy import off_policy
from alignlab.diagnosis.template_audit import audit, decoded
from alignlab.finding import Finding
from alignlab.models.load import LanguageModel
from alignlab.objectives.base import Objective
from alignlab.plan import Plan
from alignlab.protocols import FeedbackSource
from alignlab.recipes.judging import SELF, engine_of
from alignlab.recipes.study import StudyConfig
from alignlab.recording import STUDENT
from alignlab.runs import Run, RunIdentity
from alignlab.stages.judges import model_judge
from alignlab.training.config import LengthSettings
from alignlab.training.record_kinds import Record, prepare_for
from alignlab.training.token_groups import Prepared, prepare
from alignlab.types import Corpus, PreferenceGroup

R = TypeVar("R", bound=Record)
AUDITED = 1000
"""Maximum number of records that are tokenised for the audit."""


@dataclass(frozen=True)
class ModelSample:
    """Model with the records of a sample that it is asked about."""

    context: RunContext
    model: str
    """Spec of the model."""
    lengths: LengthSettings
    size: int
    """Number of pairs that the model scores."""

    @cached_property
    def lm(self) -> LanguageModel:
        """Return the model, loaded for inference."""
        return self.context.open(resolve_model(self.model))

    def drawn(self, records: Sequence[R], most: int) -> list[R]:
        """Draw records by the seed."""
        seed = self.context.seed
        return sorted(records, key=lambda r: seeds.derive(seed, "check", r.id))[:most]

    def prepared(self, objective: Objective, records: Sequence[Record]) -> Prepared:
        """Tokenise a sample of the records as the objective's training does."""
        some = self.drawn(records, AUDITED)
        return prepare_for(
            self.lm, objective, some, seed=self.context.seed, drop_bad=True, **asdict(self.lengths)
        )

    def audited(self, objective: Objective, records: Sequence[Record]) -> list[Finding]:
        """Diagnose template, mask and end token, and show an example as it is trained."""
        first = self.drawn(records, 1)[0]
        groups, tally = self.prepared(objective, records)
        found = audit(self.lm, groups, tally, first.prompt.messages)
        shown = decoded(self.lm, groups[0]).replace("\n", "\\n")
        return [*found, Finding("example", "ok", f"trained is the part in ⟦ ⟧: {shown}")]

    def off_policy(self, groups: Sequence[PreferenceGroup]) -> list[Finding]:
        """Diagnose how likely pairs are under the model; nothing without pairs."""
        drawn = self.drawn(pairs_of(groups), AUDITED)
        if not drawn:
            return []
        tokens, _ = prepare(self.lm, drawn, drop_bad=True, **asdict(self.lengths))
        tokens = tokens[: self.size]
        fitting = {group.id for group in tokens}
        pairs = [pair for pair in drawn if pair.id in fitting][: self.size]
        return [off_policy(self.lm, pairs, tokens, self.context.seed)]


class NamedJudge(NamedTuple):
    """Judge of a study, built when it is asked."""

    name: str
    """Setting or role, and spec."""
    engine: str
    build: Callable[[], FeedbackSource]


def diagnose_data(corpus: Corpus) -> list[Finding]:
    """Diagnose length, format, labels, repetitions and overlap of a corpus."""
    return [*leakage(corpus), *labels(corpus), *duplicates(corpus), *overlap(corpus)]


def diagnose_study(
    config: StudyConfig, plan: Plan, *, sample: int, ask: bool = False
) -> tuple[Finding, ...]:
    """Diagnose a study: its data, the template of its base model, and its judges.

    Args:
        config: settings of the study.
        plan: plan of the study, which names its critics.
        sample: number of pairs that models and judges are asked about; 0 loads no model.
        ask: ask judges behind endpoints too.
    """
    corpus = load_roles(config.roles, config.corpus.overlap)
    found = diagnose_data(corpus)
    if not sample:
        return tuple(found)
    with sampling(config.hardware, config.chat_template, config.seed) as context:
        model = ModelSample(context, config.model, config.lengths, sample)
        if corpus.demonstrations:
            found += model.audited(registry.get("objective", "sft")(), corpus.demonstrations)
        if getattr(config, "groups", "") == "data":
            found += model.off_policy(corpus.groups)
        pairs = pairs_of(corpus.test_groups or corpus.groups)
        for judge in _judges(context, config, plan):
            found.append(_asked(judge, pairs, sample, config.seed, ask=ask))
    return tuple(found)


@contextmanager
def sampling(hardware: Hardware, chat_template: str, seed: int) -> Iterator[RunContext]:
    """Yield a context whose run directory is removed at the end."""
    with TemporaryDirectory() as folder, progress.quiet():
        run = Run.start(Path(folder), RunIdentity("check", {}, (seed,)))
        try:
            yield RunContext(run, seed, hardware, chat_template or None)
        finally:
            run.close()


def _judges(context: RunContext, config: StudyConfig, plan: Plan) -> list[NamedJudge]:
    """Return the measuring judge, and the critics that a plan names."""
    found = []
    if measures := config.measuring_judge:
        build = partial(context.judge, measures)
        found.append(NamedJudge(f"measure.judge={measures}", engine_of(measures), build))
    judging = dict.fromkeys(c.by for c in plan.calls if c.what == "judgements")
    for spec in judging:
        if spec == STUDENT or engine_of(spec) == engine_of(measures):
            continue
        critic = partial(_critic, context, config, spec)
        found.append(NamedJudge(f"critic {spec}", engine_of(spec), critic))
    return found


def _critic(context: RunContext, config: StudyConfig, spec: str) -> FeedbackSource:
    feedback = getattr(config, "feedback", "")
    if feedback and engine_of(feedback) == engine_of(spec):
        return context.judge(feedback)
    return model_judge(context.completer(spec), config.critic)


def _asked(
    judge: NamedJudge, pairs: Sequence[PreferenceGroup], sample: int, seed: int, *, ask: bool
) -> Finding:
    """Ask a judge about labelled pairs, unless it does not exist yet or is behind an endpoint."""
    about = f"judge {judge.name}"
    if judge.engine == SELF:
        return Finding(about, "skipped", "M1 is not trained yet")
    if judge.engine.startswith("openai:") and not ask:
        calls = 2 * min(sample, len(pairs))
        return Finding(about, "skipped", f"--ask asks it about {calls} responses")
    return judge_chance(judge.name, judge.build(), pairs, most=sample, seed=seed)
