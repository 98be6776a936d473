"""The nouns of alignlab: frozen dataclasses, no torch, no import of ours.

Axis letters, used as suffixes of batched names everywhere (`logps_BK`, `tokens_T`):

    B  prompts (preference groups) in a batch     K  responses of one prompt, best first
    T  positions of a packed token stream         R  response tokens in a packed stream
    S  samples of a judge                         N  records, rows or bootstrap units
    V  vocabulary                                 G  rollouts of one prompt (policy gradient)

Every noun is written to JSON by `alignlab.records` and read back equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Role = Literal["system", "user", "assistant"]
QueryType = Literal["open", "closed"]
Finish = Literal["stop", "length", "error"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True)
class Prompt:
    """What a model is asked: a conversation that ends in a user's turn."""

    id: str
    messages: tuple[Message, ...]
    source: str = ""
    """Where it comes from: a data source's name, or the checkpoint that wrote it."""
    reference: str | None = None
    """A known good answer, where the data holds one."""
    query_type: QueryType | None = None
    """Open-ended or closed-ended (arXiv 2402.03469), where known."""

    @property
    def text(self) -> str:
        """The last user turn."""
        return self.messages[-1].content

    @property
    def cluster(self) -> str:
        """Return 16 hex digits that prompts of the same conversation share, whatever their ids.

        Answers to one prompt are not independent: intervals resample clusters.
        """
        turns = [part for m in self.messages for part in (m.role, m.content)]
        return hashlib.sha256(json.dumps(turns).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Sampling:
    """How a completion is drawn."""

    temperature: float = 0.7
    """0 is greedy."""
    top_p: float = 0.9
    """Nucleus mass kept; 1 keeps all."""
    max_tokens: int = 256
    """Most new tokens, the end-of-turn token included."""
    n: int = 1
    """Completions drawn per request."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion; they are cut off its text."""


@dataclass(frozen=True)
class CompletionRequest:
    """One call of a completer: a conversation to continue `sampling.n` times."""

    id: str
    messages: tuple[Message, ...]
    """Without any, the prefix is plain text to continue."""
    sampling: Sampling
    seed: int
    """Decides every random draw of this request, whatever batch it travels in."""
    prefix: str = ""
    """Text the assistant's turn already starts with; not repeated in the completion."""


@dataclass(frozen=True)
class Completion:
    """One completion; `finish == "error"` has an empty text and says why in `error`."""

    text: str
    finish: Finish
    tokens: int
    """New tokens, the end-of-turn token included."""
    prompt_tokens: int
    logprob: float | None = None
    """Sum of the chosen tokens' log-probabilities in nats, where the engine gives it."""
    error: str = ""


@dataclass(frozen=True)
class SampledBy:
    """Which model and settings made a response."""

    model: str
    sampling: Sampling | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Response:
    """One answer to a prompt."""

    id: str
    prompt_id: str
    text: str
    sampler: SampledBy
    tokens: int = 0
    finish: Finish = "stop"


@dataclass(frozen=True)
class Demonstration:
    """A target to imitate: one prompt and the response to learn."""

    prompt: Prompt
    response: Response
    task: str = "ift"
    """"ift" (an answer), "eft" (a judgement), "critique" or "refine", counted apart."""

    @property
    def id(self) -> str:
        return self.response.id


@dataclass(frozen=True)
class Score:
    """A number on the judge's scale: the mean of its readable samples."""

    value: float
    samples: tuple[float | None, ...] = ()
    """Every sample as read; None is a sample that could not be read."""

    @property
    def spread(self) -> float | None:
        """Standard deviation of the readable samples (n - 1); None of fewer than two."""
        read = [sample for sample in self.samples if sample is not None]
        if len(read) < 2:
            return None
        mean = sum(read) / len(read)
        return float((sum((s - mean) ** 2 for s in read) / (len(read) - 1)) ** 0.5)


@dataclass(frozen=True)
class Preference:
    """A verdict between two responses: index of the better one, or None for a tie."""

    winner: Literal[0, 1] | None
    orders: tuple[Literal[0, 1] | None, ...] = ()
    """The winner as judged in each order of presentation, in terms of the given responses."""


@dataclass(frozen=True)
class Ranking:
    """Ranks of the responses, 0 the best; equal ranks are ties."""

    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Critique:
    """Feedback in words."""

    text: str


@dataclass(frozen=True)
class Unscored:
    """No verdict could be had; never a number, always counted."""

    reason: str


Verdict = Score | Preference | Ranking | Critique | Unscored


@dataclass(frozen=True)
class Feedback:
    """What one source said of one or several responses to a prompt."""

    prompt_id: str
    response_ids: tuple[str, ...]
    source: str
    verdict: Verdict
    rationale: str = ""
    raw: tuple[str, ...] = ()
    """The source's answers as they came, one per sample."""

    @property
    def id(self) -> str:
        return f"{self.source}|{'|'.join(self.response_ids)}"


@dataclass(frozen=True)
class PreferenceGroup:
    """K >= 2 responses to one prompt, best first, with the scores that ordered them."""

    prompt: Prompt
    responses: tuple[Response, ...]
    scores: tuple[float, ...]
    """One per response, not increasing; ranks are given as 0, -1, -2, ..."""
    source: str
    """The feedback source (or data source) that ordered them."""

    def __post_init__(self) -> None:
        if len(self.responses) < 2 or len(self.scores) != len(self.responses):
            raise ValueError(
                f"a group needs at least 2 responses and a score for each; "
                f"got {len(self.responses)} and {len(self.scores)}"
            )
        if any(a < b for a, b in zip(self.scores, self.scores[1:], strict=False)):
            raise ValueError(f"responses must come best first; got scores {self.scores}")

    @property
    def id(self) -> str:
        return self.prompt.id

    def best_and_worst(self) -> PreferenceGroup | None:
        """The pair of the first and the last response; None when their scores are equal."""
        if self.scores[0] == self.scores[-1]:
            return None
        return replace(
            self,
            responses=(self.responses[0], self.responses[-1]),
            scores=(self.scores[0], self.scores[-1]),
        )


@dataclass(frozen=True)
class Checkpoint:
    """A trained model on disk, in Hugging Face format."""

    name: str
    """What the study calls it: M0, M1, ..."""
    path: str
    parent: str | None = None
    """The checkpoint it was trained from."""
    step: int | None = None
    fingerprint: str = ""
    """Hash of weights and tokenizer; equal fingerprints behave the same."""
    made: str = ""
    """How it was made, in one line for the report."""


@dataclass(frozen=True)
class EvalResult:
    """One measured figure with its interval."""

    model: str
    benchmark: str
    metric: str
    value: float | None
    """None when nothing could be scored."""
    low: float | None
    high: float | None
    """Bounds of the 95% interval."""
    n: int
    """Scored units the value rests on."""
    unscored: int = 0
    """Units without a verdict, left out of the value."""
    against: str | None = None
    """The other side of a comparison."""
    group: str | None = None
    """A part of the benchmark (a prompt type, say); None is the whole."""
    seeds: tuple[int, ...] = ()
    comparable: bool | None = None
    """Whether the figure may stand beside the public leaderboard's; None where there is none."""


@dataclass(frozen=True)
class Count:
    """How many records a step kept, changed or dropped, and why."""

    stage: str
    what: str
    kept: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number."""
    changed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """What a data source gives a study; a source leaves empty what it does not hold."""

    name: str
    demonstrations: tuple[Demonstration, ...] = ()
    """Instruction data to imitate (IFT)."""
    groups: tuple[PreferenceGroup, ...] = ()
    """Responses ranked by humans (the raw material of EFT), or ready preference data."""
    prompts: tuple[Prompt, ...] = ()
    """Prompts for sampling feedback data, apart from those above."""
    test_prompts: tuple[Prompt, ...] = ()
    """Held-out prompts; nothing above shares one with them."""
    test_groups: tuple[PreferenceGroup, ...] = ()
    """Held-out ranked responses, for measuring judges."""
    counts: tuple[Count, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    """Path -> SHA-256 of every file that was read."""
    reserved: tuple[str, ...] = ()
    """Words that belong to the held-out part (the test entities of the sandbox, say): prompts
    that a model writes for training must not hold them."""
    labelled: tuple[UnpairedPreference, ...] = ()
    """Responses with a label instead of a rank (unpaired preferences)."""
    commented: tuple[CritiquedResponse, ...] = ()
    """Responses with feedback in words."""


@dataclass(frozen=True)
class Audit:
    """One response with what a judge said of it and what is true of it, where truth is known."""

    response_id: str
    model: str
    """Who wrote the response."""
    source: str
    """The judge."""
    reward: float | None
    """The judge's score; None is unscored."""
    truth: float
    """The reference score (the oracle's, or a human's)."""
    prompt_id: str = ""


@dataclass(frozen=True)
class DisplayedAnswer:
    """One model's answer as the report shows it."""

    model: str
    text: str
    feedback: tuple[Feedback, ...] = ()


@dataclass(frozen=True)
class Example:
    """One prompt with the answers of several models side by side."""

    prompt: Prompt
    answers: tuple[DisplayedAnswer, ...]


@dataclass(frozen=True)
class Usage:
    """What a stage spent."""

    prompt_tokens: int = 0
    tokens: int = 0
    """Tokens generated (sampling, judging) or trained on."""
    calls: int = 0
    """Completions asked of a model, teacher or judge."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.tokens + other.tokens,
            self.calls + other.calls,
        )


@dataclass(frozen=True)
class StudyDescription:
    """What a run asks and whom it compares; the report's frame."""

    recipe: str
    question: str
    baseline: str
    """The model that the others are measured against."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Name -> one line that says how it was made, in the order of the report."""


@dataclass(frozen=True)
class UnpairedPreference:
    """One response that is said to be good or bad by itself, as KTO learns from."""

    prompt: Prompt
    response: Response
    desirable: bool

    @property
    def id(self) -> str:
        return self.response.id


@dataclass(frozen=True)
class CritiquedResponse:
    """One response with what was said of it."""

    prompt: Prompt
    response: Response
    comment: str

    @property
    def id(self) -> str:
        return self.response.id


@dataclass(frozen=True)
class Drift:
    """Where a policy stood at one step of its training, by the responses drawn for that step."""

    model: str
    step: int
    """From 1."""
    kl: float
    """KL divergence from the model it started from, nats per response."""
    reward: float | None
    """Mean score by what the policy is rewarded for."""
    truth: float | None
    """Mean true score, where truth is known."""
    n: int
    """Responses with a score."""
    seed: int = 0
    """Training seed."""


@dataclass(frozen=True)
class PromptValue:
    """A model's figure on one prompt; two runs that hold such values can be compared by prompt."""

    model: str
    benchmark: str
    metric: str
    prompt: str
    """Fingerprint of the prompt's words: equal ones are the same prompt, whatever its id."""
    value: float
    by: str = ""
    """Who judged; figures of different judges are not compared."""
    against: str | None = None
    seed: int = 0
    """Training seed."""


@dataclass(frozen=True)
class Paired:
    """A figure of one run less that of another on the prompts that both hold."""

    first: str
    """Run and model whose figure is the minuend."""
    second: str
    benchmark: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    """Bounds of the 95% interval, prompts resampled in pairs."""
    p: float | None
    """Of a paired randomisation test, two-sided."""
    p_holm: float | None
    """The same, adjusted for the number of differences tested (Holm)."""
    prompts: int
    reason: str = ""
    """Why nothing could be compared; empty where it was."""


@dataclass(frozen=True)
class ScalePoint:
    """One point of a scaling curve, measured or on the fitted line."""

    series: str
    along: str
    """What grows: iterations, prompts or parameters."""
    at: float
    """How much of it."""
    value: float
    low: float | None
    high: float | None
    n: int
    """Scored answers that it rests on."""
    model: str = ""
    """Who was measured; empty on the fitted line."""
