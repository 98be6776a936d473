"""Generate new prompts from examples with a model (self-instruct, arXiv 2212.10560)."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from alignlab import meter, progress, seeds
from alignlab.configs import Bounded, Fraction, NonNegative, NonNegativeInt, PositiveInt
from alignlab.context import RunContext
from alignlab.data.filters import FilterConfig, filter_prompts
from alignlab.errors import BadInput
from alignlab.protocols import Completer
from alignlab.recording import Recorder
from alignlab.runs import Stage
from alignlab.stages.proposals import (
    PromptingMode,
    drawn_examples,
    prompting_mode,
    read_proposal,
    request,
)
from alignlab.types import CompletionRequest, Count, Prompt, Sampling, Unscored

log = logging.getLogger(__name__)

COUNTS = 2
"""Counts of a round's refused texts: by the filters, and by what is wrong with them."""
FRUITLESS = 100
"""Texts of whole rounds without a new prompt after which no further ones are asked for."""


@dataclass(frozen=True)
class ProposeSettings(Bounded):
    """Settings of generating and filtering new prompts (arXiv 2401.10020, section 2.2)."""

    n: NonNegativeInt = 1000
    """Number of prompts per iteration; 0 shares the data's own prompts out over the iterations."""
    by: str = ""
    """Model that writes the prompts: local:FOLDER, openai:MODEL@URL, ...; empty is the model in
    training."""
    shots: PositiveInt = 8
    """Example prompts shown per request."""
    temperature: NonNegative = 0.6
    """Sampling temperature."""
    top_p: Fraction = 0.9
    """Nucleus mass."""
    max_tokens: PositiveInt = 128
    """Maximum number of tokens of a new prompt."""
    max_rounds: PositiveInt = 8
    """Maximum number of rounds of about n requests each, fewer where 100 in a row give no new
    prompt; missing prompts are topped up afterwards."""
    filters: FilterConfig = field(default_factory=FilterConfig)
    """Filters that reject a new prompt."""
    top_up: bool = True
    """Fill up with the data's own prompts if the model generates too few."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by and not self.n:
            raise BadInput("setting propose.by: has no effect with propose.n=0")
        if self.by == "self":
            raise BadInput("setting propose.by: leave it out for the model under study")

    def sampling(self) -> Sampling:
        """Return the sampling of one prompt."""
        return Sampling(self.temperature, self.top_p, self.max_tokens)


@dataclass(frozen=True)
class ProposalContext:
    """Prompts to show as examples, and prompts that new ones must differ from."""

    examples: Sequence[Prompt]
    """Prompts to show and to differ from (IFT prompts and earlier proposals)."""
    spare: Sequence[Prompt] = ()
    """The data's own prompts, for topping up."""
    held_out: Sequence[Prompt] = ()
    """Test prompts, from which a new prompt must differ as from the examples."""
    reserved: Sequence[str] = ()
    """Words of the held-out part that no new prompt may contain."""


def propose(
    context: RunContext,
    completer: Completer,
    given: ProposalContext,
    settings: ProposeSettings,
    *,
    name: str = "propose",
) -> list[Prompt]:
    """Generate prompts like the examples until there are enough, or use the data's own.

    The prompting mode is chosen once, before the first prompt, and recorded with the counts.
    """
    if context.recorder and settings.n:
        return _planned(context.recorder, context, completer, given.examples, settings, name)
    spare = given.spare
    with context.run.stage(name, config=settings, inputs={"by": completer.name}) as stage:
        file = stage.records("prompts", Prompt)
        dropped: Counter[str] = Counter()
        written = "prompts written"
        if settings.n and not stage.done:
            mode = _mode(stage, completer)
            _write_rounds(stage, context, completer, mode, given, settings, dropped)
            written += f" by {mode.how}"
        if not stage.done and "spare" not in file.units:
            missing = len(spare) if not settings.n else settings.n - file.count()
            taken = list(spare)[: max(0, missing)] if settings.top_up or not settings.n else []
            # Counted first: a kill in between repeats the count, not the prompts.
            stage.count(
                [
                    Count(stage.name, written, file.count(), dict(dropped)),
                    Count(stage.name, "prompts from the data", len(taken)),
                ]
            )
            file.append("spare", taken)
        return file.read()


def _planned(
    recorder: Recorder,
    context: RunContext,
    completer: Completer,
    examples: Sequence[Prompt],
    settings: ProposeSettings,
    name: str,
) -> list[Prompt]:
    """Record the requests of all rounds in the plan of a study, as if every round were needed."""
    mode = PromptingMode("continuation")
    # Usually the second round brings what is missing.
    rounds = settings.max_rounds if recorder.lengths.prompt is None else 1.5
    with context.run.stage(name), recorder.asking("prompts", min(rounds, settings.max_rounds)):
        completer.complete(_requests(context, name, mode, examples, settings, ""))
    length = recorder.lengths.drawn("prompts", settings.max_tokens)
    return recorder.new_prompts(completer.name, settings.n, length)


def _mode(stage: Stage, completer: Completer) -> PromptingMode:
    """Return the recorded prompting mode, or choose and record it."""
    file = stage.records("way", PromptingMode)  # the file's name in 0.1
    if "all" not in file.units:
        file.append("all", [prompting_mode(completer)])
    return file.read()[0]


def _write_rounds(
    stage: Stage,
    context: RunContext,
    completer: Completer,
    mode: PromptingMode,
    given: ProposalContext,
    settings: ProposeSettings,
    dropped: Counter[str],
) -> None:
    """Write rounds until there are enough prompts, or no new ones come; count what is dropped."""
    file = stage.records("prompts", Prompt)
    refused = stage.records("refused", Count)
    with progress.task(context.title(f"{completer.name} writes prompts"), settings.n) as bar:
        fruitless = 0
        for round_ in range(settings.max_rounds):
            kept = file.read()
            bar.set(min(len(kept), settings.n))
            if len(kept) >= settings.n:
                break
            if f"round {round_}" not in file.units:
                _write_round(stage, context, completer, mode, given, settings, round_)
            fruitless = 0 if refused.read()[COUNTS * round_].kept else fruitless + settings.n
            if fruitless >= FRUITLESS:
                log.warning(
                    "%s: none of the last %d texts by %s is a new prompt; no further ones are "
                    "asked for", context.title(stage.name), fruitless, completer.name,
                )  # fmt: skip
                break
        for count in refused.read():
            dropped.update({reason: n for reason, n in count.dropped.items() if n})


def _write_round(
    stage: Stage,
    context: RunContext,
    completer: Completer,
    mode: PromptingMode,
    given: ProposalContext,
    settings: ProposeSettings,
    round_: int,
) -> None:
    """Ask for the texts of one round; write the new prompts among them, and count the others."""
    file, refused = stage.records("prompts", Prompt), stage.records("refused", Count)
    unit, kept = f"round {round_}", file.read()
    requests = _requests(context, stage.name, mode, given.examples, settings, f"{round_}.")
    before = meter.mark()
    found = [
        read_proposal(mode, completer.name, several[0]) for several in completer.complete(requests)
    ]
    written = [p for p in found if isinstance(p, Prompt)]
    new = [p for p in written if not names_reserved(p, given.reserved)]
    known = [*given.examples, *kept, *given.held_out]
    result = filter_prompts(new, known, settings.filters)
    if unit not in refused.units:
        unread = Counter(p.reason for p in found if isinstance(p, Unscored))
        unread["about what is held out"] = len(written) - len(new)
        refused.append(unit, [result.count, Count(stage.name, "unfit", 0, dict(unread))])
    file.append(unit, result.kept[: settings.n - len(kept)], meter.since(before))


def _requests(
    context: RunContext,
    purpose: str,
    mode: PromptingMode,
    examples: Sequence[Prompt],
    settings: ProposeSettings,
    prefix: str,
) -> list[CompletionRequest]:
    """Return `settings.n` requests with ids from the prefix, each with examples of its own."""
    found = []
    for number in (f"{prefix}{i}" for i in range(settings.n)):
        draw = seeds.generator(context.seed, purpose, number)
        shown = drawn_examples(examples, settings.shots, draw)
        seed = context.seed_for(purpose, number)
        found.append(request(mode, number, shown, settings.sampling(), seed))
    return found


def names_reserved(prompt: Prompt, reserved: Sequence[str]) -> bool:
    """Return whether a prompt contains one of the reserved words."""
    return not set(re.findall(r"\w+", prompt.text.lower())).isdisjoint(
        word.lower() for word in reserved
    )
