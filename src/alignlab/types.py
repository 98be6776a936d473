"""Typed records that stages and modules exchange: frozen dataclasses, without torch.

Axis letters, used as suffixes of batched names everywhere (`logps_BK`, `tokens_T`):

    B  prompts (preference groups) in a batch     K  responses of one prompt, best first
    T  positions of a packed token stream         R  response tokens in a packed stream
    S  samples of a judge                         N  records, rows or bootstrap units
    V  vocabulary                                 G  rollouts of one prompt (policy gradient)

`alignlab.records` writes every record to JSON and reads it back equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from alignlab.run_types import Audit as Audit
from alignlab.run_types import Count as Count
from alignlab.run_types import Drift as Drift
from alignlab.run_types import EvalResult as EvalResult
from alignlab.run_types import Paired as Paired
from alignlab.run_types import PromptValue as PromptValue
from alignlab.run_types import ScalePoint as ScalePoint
from alignlab.run_types import StudyDescription as StudyDescription
from alignlab.run_types import Usage as Usage

Role = Literal["system", "user", "assistant"]
QueryType = Literal["open", "closed"]
Finish = Literal["stop", "length", "error"]

LEFT_OUT_IF_NONE: Mapping[str, bool] = {"left_out_if_none": True}
"""Metadata of a field that is not written where it is None."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True)
class Prompt:
    """Conversation to answer; the last turn is the user's."""

    id: str
    messages: tuple[Message, ...]
    source: str = ""
    """Origin: name of a data source, or of the checkpoint that wrote the prompt."""
    reference: str | None = None
    """Reference answer, where the data holds one."""
    query_type: QueryType | None = None
    """Open-ended or closed-ended (arXiv 2402.03469), where known."""
    later_turns: tuple[str, ...] = ()
    """User turns that follow the answer (MT-Bench's second turn); studies ask the first alone."""

    @property
    def text(self) -> str:
        """Content of the last user turn."""
        return self.messages[-1].content

    @property
    def cluster(self) -> str:
        """Hash of the conversation, 16 hex digits; equal for equal conversations of any id.

        Confidence intervals resample clusters: answers to one prompt are not independent.
        """
        turns = [part for m in self.messages for part in (m.role, m.content)]
        return hashlib.sha256(json.dumps(turns).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters of a completion."""

    temperature: float = 0.7
    """Softmax temperature; 0 is greedy decoding."""
    top_p: float = 0.9
    """Probability mass of the nucleus; 1 samples from all tokens."""
    max_tokens: int = 256
    """Maximum number of new tokens, the end-of-turn token included."""
    n: int = 1
    """Completions per request."""
    stop: tuple[str, ...] = ()
    """Stop strings; removed from the completion's text."""


@dataclass(frozen=True)
class CompletionRequest:
    """Request for `sampling.n` completions of a conversation."""

    id: str
    messages: tuple[Message, ...]
    """Turns of the conversation; empty: `prefix` is plain text to continue."""
    sampling: Sampling
    seed: int
    """Seed of all random draws of the request, independent of the batch."""
    prefix: str = ""
    """Start of the assistant's turn; not repeated in the completion."""


@dataclass(frozen=True)
class Completion:
    """One completion; with `finish == "error"`, `text` is empty and `error` holds the reason."""

    text: str
    finish: Finish
    tokens: int
    """Number of new tokens, the end-of-turn token included."""
    prompt_tokens: int
    logprob: float | None = None
    """Sum of the sampled tokens' log-probabilities in nats; None where the engine gives none."""
    error: str = ""


@dataclass(frozen=True)
class SampledBy:
    """Model and sampling settings of a response."""

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
class PromptResponse:
    """One prompt with one response."""

    prompt: Prompt
    response: Response

    @property
    def id(self) -> str:
        """Id of the response."""
        return self.response.id


@dataclass(frozen=True)
class Demonstration(PromptResponse):
    """Target of supervised fine-tuning: a prompt and the response to learn."""

    task: str = "ift"
    """"ift" (an answer), "eft" (a judgement), "critique" or "refine"; counted separately."""


@dataclass(frozen=True)
class UnpairedPreference(PromptResponse):
    """One response labelled desirable or undesirable, as KTO trains on."""

    desirable: bool


@dataclass(frozen=True)
class CritiquedResponse(PromptResponse):
    """One response with feedback in words."""

    comment: str


@dataclass(frozen=True)
class Score:
    """Score on the judge's scale: mean of the readable samples."""

    value: float
    samples: tuple[float | None, ...] = ()
    """Score of every sample; None where the sample could not be read."""

    @property
    def spread(self) -> float | None:
        """Standard deviation of the readable samples (divisor n - 1); None for fewer than two."""
        read = [sample for sample in self.samples if sample is not None]
        if len(read) < 2:
            return None
        mean = sum(read) / len(read)
        return float((sum((s - mean) ** 2 for s in read) / (len(read) - 1)) ** 0.5)


@dataclass(frozen=True)
class Preference:
    """Verdict of a pairwise comparison: index of the better response, None for a tie."""

    winner: Literal[0, 1] | None
    orders: tuple[Literal[0, 1] | None, ...] = ()
    """Winner in each order of presentation, as an index of the responses as passed."""


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
    """Missing verdict with its reason; never replaced by a number, always counted."""

    reason: str


Verdict = Score | Preference | Ranking | Critique | Unscored


@dataclass(frozen=True)
class StepScore:
    """Reward of one part of a response, such as a sentence."""

    end: int
    """End of the part, in characters of the response without its reasoning."""
    value: float


@dataclass(frozen=True)
class Feedback:
    """Verdict of one source on one or several responses to a prompt."""

    prompt_id: str
    response_ids: tuple[str, ...]
    source: str
    verdict: Verdict
    rationale: str = ""
    raw: tuple[str, ...] = ()
    """Unparsed replies of the source, one per sample."""
    steps: tuple[StepScore, ...] | None = field(default=None, metadata=LEFT_OUT_IF_NONE)
    """Rewards inside the response, in order, for training on rollouts; None is the score alone."""

    @property
    def id(self) -> str:
        """Source and response ids, joined by `|`."""
        return f"{self.source}|{'|'.join(self.response_ids)}"


@dataclass(frozen=True)
class PreferenceGroup:
    """K >= 2 responses to one prompt, best first, with their scores."""

    prompt: Prompt
    responses: tuple[Response, ...]
    scores: tuple[float, ...]
    """One score per response, not increasing; ranks become 0, -1, -2, ..."""
    source: str
    """Feedback source or data source of the scores."""
    probability: float | None = field(default=None, metadata=LEFT_OUT_IF_NONE)
    """Probability that the first of two responses is the better one, in [0.5, 1] (soft label);
    None is a hard label."""

    def __post_init__(self) -> None:
        if len(self.responses) < 2 or len(self.scores) != len(self.responses):
            raise ValueError(
                f"a group needs at least 2 responses and a score for each; "
                f"got {len(self.responses)} and {len(self.scores)}"
            )
        if any(a < b for a, b in zip(self.scores, self.scores[1:], strict=False)):
            raise ValueError(f"responses must come best first; got scores {self.scores}")
        if self.probability is not None and not (
            len(self.scores) == 2 and self.scores[0] > self.scores[1]
        ):
            raise ValueError(f"a probability is of two ordered responses; got scores {self.scores}")
        if self.probability is not None and not 0.5 <= self.probability <= 1:
            raise ValueError(f"a probability lies in [0.5, 1], best first; got {self.probability}")

    @property
    def id(self) -> str:
        """Id of the prompt."""
        return self.prompt.id

    def best_and_worst(self) -> PreferenceGroup | None:
        """Return the pair of the first and the last response; None for equal scores."""
        if self.scores[0] == self.scores[-1]:
            return None
        return replace(
            self,
            responses=(self.responses[0], self.responses[-1]),
            scores=(self.scores[0], self.scores[-1]),
        )


@dataclass(frozen=True)
class Checkpoint:
    """Trained model on disk, in Hugging Face format."""

    name: str
    """Name in the study: M0, M1, ..."""
    path: str
    parent: str | None = None
    """Checkpoint that training started from."""
    step: int | None = None
    fingerprint: str = ""
    """Hash of weights and tokenizer."""
    made: str = ""
    """Description of the training, one line for the report."""


@dataclass(frozen=True)
class Corpus:
    """Records of a data source, by kind; empty for kinds that the source does not hold."""

    name: str
    demonstrations: tuple[Demonstration, ...] = ()
    """Targets of supervised fine-tuning (IFT)."""
    groups: tuple[PreferenceGroup, ...] = ()
    """Ranked responses: preference data, or the source of EFT targets."""
    prompts: tuple[Prompt, ...] = ()
    """Training prompts for sampling responses."""
    test_prompts: tuple[Prompt, ...] = ()
    """Held-out prompts, disjoint from the prompts of all training records."""
    test_groups: tuple[PreferenceGroup, ...] = ()
    """Held-out ranked responses, for measuring judges."""
    counts: tuple[Count, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    """Path -> SHA-256 of every file that was read."""
    reserved: tuple[str, ...] = ()
    """Words of the held-out part (test entities of the sandbox) that self-written training
    prompts must not contain."""
    labelled: tuple[UnpairedPreference, ...] = ()
    """Responses with a desirable or undesirable label."""
    commented: tuple[CritiquedResponse, ...] = ()
    """Responses with feedback in words."""


@dataclass(frozen=True)
class DisplayedAnswer:
    """Answer of one model with its feedback, for the report."""

    model: str
    text: str
    feedback: tuple[Feedback, ...] = ()


@dataclass(frozen=True)
class Example:
    """One prompt with the answers of several models."""

    prompt: Prompt
    answers: tuple[DisplayedAnswer, ...]
