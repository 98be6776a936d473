"""Rate responses with a feedback source, into rows with scores or preference groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alignlab import configs
from alignlab.commands._support.file_job import FileWritten, open_file_run, run_folder, types_of
from alignlab.commands._support.job import setting_layers
from alignlab.commands._support.prompts_and_responses import ReadResponses, dropped, responses_of
from alignlab.commands._support.responses_from_run import answers_of_run
from alignlab.configs import Bounded, NonNegativeInt, Seed
from alignlab.context import Hardware
from alignlab.data.convert import write_rows
from alignlab.data.sources import load as load_data
from alignlab.data.writers import WRITERS, Written
from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import share_interval
from alignlab.evaluation.tasks import value_of
from alignlab.measuring.cached import CachedPairs
from alignlab.records import fingerprint, to_dict
from alignlab.run_models import is_run
from alignlab.stages.judge import judge as judge_stage
from alignlab.types import (
    Corpus,
    Critique,
    Demonstration,
    Feedback,
    Message,
    PreferenceGroup,
    Prompt,
    Response,
    SampledBy,
    Score,
    Unscored,
)

Layout = Literal["scores", "groups"]


@dataclass(frozen=True)
class JudgeFileSettings(Bounded):
    """Settings of rating responses, and the layout of the file."""

    to: Layout = "scores"
    """"scores": a row per response; "groups": a row per prompt, its scored responses best first,
    for preference objectives."""
    seed: Seed = 0
    """Seed of every random draw."""
    limit: NonNegativeInt = 0
    """Maximum number of prompts, from the start of the data; 0 uses all."""
    device: str = "auto"
    """Device: "auto" uses a GPU if there is one; else "cpu", "cuda", "cuda:1", ..."""
    dtype: str = "auto"
    """Type of models: "float32", "bfloat16", or "auto" (bfloat16 from 10 million parameters on a
    GPU, or a CPU fast in it; else float32; see `alignlab doctor`)."""
    threads: NonNegativeInt = 0
    """Torch threads; 0 is one per core."""


def rate(
    overrides: Sequence[str],
    source: str,
    responses: str | Path,
    out: str | Path,
    *,
    config: str | Path | None,
    settings: Mapping[str, Any],
    role: Literal["judge", "reward"],
) -> FileWritten:
    """Rate responses, or resume the rating where it stopped.

    A source that only compares (pairwise:ENGINE) compares all pairs of a prompt's responses; the
    score of a response is its share of comparisons won, a tie counting one half.

    Args:
        role: name of the source in the run directory.

    Raises:
        BadInput: an unknown setting or source, data without responses, an existing output file, or
            no prompt with responses to order.
        RunFailed: the work could not be finished; the same call resumes.
    """
    chosen = configs.build(JudgeFileSettings, *setting_layers(config, overrides, settings))
    path = Path(out)
    run_folder(path)
    corpus, answered = _answered(str(responses), chosen.limit)
    identity = to_dict(chosen) | {role: source, "responses": str(responses)}
    if is_run(Path(responses)):  # no file of data whose hash would show a change
        texts = [[one.prompt_id, one.id, one.text] for one in answered.responses]
        identity["answers"] = fingerprint(texts)
    # None changes a verdict: one piece of work can be written in both layouts.
    for without_effect in ("threads", "device", "to"):
        identity.pop(without_effect)
    hardware = Hardware(chosen.device, chosen.dtype, workers=1, threads=chosen.threads)
    with open_file_run(path, role, identity, chosen.seed, hardware) as context:
        context.run.add_inputs(corpus.files)
        with context.run.stage("data") as stage:
            stage.count([*corpus.counts, answered.tally])
        rater = context.rater(source)
        feedback = judge_stage(context, rater, answered.prompts, answered.responses, name=role)
        written = _LAYOUTS[chosen.to](answered, feedback)
        if not written.rows:
            why = "; ".join(f"{reason} {n}" for reason, n in written.dropped.items())
            raise BadInput(f"{responses}: expected responses to order, found none ({why})")
        write_rows(path, written)
        context.run.finish()
        left_out = (
            *_unscored(feedback).items(),
            *written.dropped.items(),
            *((f"records dropped: {reason}", n) for reason, n in dropped(corpus).items()),
            *answered.tally.dropped.items(),
        )
        note = "; ".join(f"{reason} {n}" for reason, n in left_out)
        done = FileWritten(
            str(path), len(written.rows), str(context.run.path), note, types_of(context.run)
        )
        scored = sum(not isinstance(f.verdict, Unscored) for f in feedback)
        return done.with_content(scored, "response was scored")


def _answered(spec: str, limit: int) -> tuple[Corpus, ReadResponses]:
    """Return the responses of data, or a run's held-out answers, and what was read with them."""
    run = Path(spec)
    if is_run(run):
        return Corpus(spec), answers_of_run(run, limit=limit)
    corpus = load_data(spec)
    return corpus, responses_of(corpus, limit)


def compare(
    source: str, pairs: Sequence[Mapping[str, Any]], out: str | Path, *, seed: int = 0
) -> FileWritten:
    """Compare two responses to each prompt, each pair in both orders.

    Args:
        source: a feedback source; if it only scores, the higher score wins.
        pairs: `prompt` (a text, or turns), `first` and `second`.
        out: file to write: .jsonl, .jsonl.gz or .parquet.
        seed: seed of every random draw.

    Raises:
        BadInput: no such source, or an existing output file.
        RunFailed: the work could not be finished; the same call resumes.
    """
    path = Path(out)
    items = _pairs_of(pairs)
    identity = {"judge": source, "pairs": fingerprint(list(pairs)), "seed": seed}
    with open_file_run(path, "compare", identity, seed, Hardware(workers=1)) as context:
        judge = CachedPairs(context, context.pair_judge(source), 64)
        rows = []
        for pair, one in zip(pairs, judge.compare(items, seed), strict=True):
            unscored = one.verdict.reason if isinstance(one.verdict, Unscored) else None
            rows.append({**pair, "value": value_of(one), "unscored": unscored, "judge": one.source})
        write_rows(path, Written(rows))
        context.run.finish()
    note = _win_rate([r["value"] for r in rows], [prompt.id for prompt, _, _ in items])
    return FileWritten(str(path), len(rows), str(context.run.path), note, types_of(context.run))


def _pairs_of(pairs: Sequence[Mapping[str, Any]]) -> list[tuple[Prompt, Response, Response]]:
    """Convert rows with `prompt`, `first` and `second` to records."""
    items = []
    for number, pair in enumerate(pairs):
        turns = pair["prompt"]
        if isinstance(turns, str):
            turns = [{"role": "user", "content": turns}]
        messages = tuple(Message(turn["role"], turn["content"]) for turn in turns)
        prompt = Prompt(fingerprint(to_dict(messages)), messages, "python")
        first, second = (
            Response(f"{number}.{side}", prompt.id, pair[side], SampledBy("python"))
            for side in ("first", "second")
        )
        items.append((prompt, first, second))
    return items


def _win_rate(values: Sequence[float | None], prompts: Sequence[str]) -> str:
    """Describe the first responses' win rate with its 95% interval, and the unscored pairs."""
    scored = [(v, p) for v, p in zip(values, prompts, strict=True) if v is not None]
    note = f"unscored {len(values) - len(scored)}" if len(scored) < len(values) else ""
    if scored:
        won = share_interval([v for v, _ in scored], [p for _, p in scored])
        between = "" if won.low is None else f" [{won.low:.3f}, {won.high:.3f}]"
        note = f"win rate of the first {won.value:.3f}{between}" + (f"; {note}" if note else "")
    return note


def _scores(answered: ReadResponses, feedback: Sequence[Feedback]) -> Written:
    """Build one row per response: prompt, response, score, and the reason if there is no score."""
    judged = [Demonstration(p, r) for p, r in _answers(answered, feedback)]
    plain = WRITERS["prompt_completion"](Corpus("judged", tuple(judged)), "best_worst").rows
    # Comments are a column of every row, or readers would miss it where there is none.
    missing = {"feedback": ""} if any(isinstance(f.verdict, Critique) for f in feedback) else {}
    return Written(
        [
            {
                **row,
                "model": one.response.sampler.model,
                "judge": f.source,
                **missing,
                **_verdict(f),
            }
            for row, one, f in zip(plain, judged, feedback, strict=True)
        ]
    )


def _groups(answered: ReadResponses, feedback: Sequence[Feedback]) -> Written:
    """Build one row per prompt: its scored responses, best first; count those without an order."""
    written = Written()
    scored: dict[str, list[tuple[Response, float]]] = {p.id: [] for p in answered.prompts}
    for (prompt, response), one in zip(_answers(answered, feedback), feedback, strict=True):
        if isinstance(one.verdict, Score):
            scored[prompt.id].append((response, one.verdict.value))
    groups = []
    for prompt in answered.prompts:
        best_first = sorted(scored[prompt.id], key=lambda pair: -pair[1])
        if len(best_first) < 2:
            written.dropped["prompt with fewer than 2 scored responses"] += 1
            continue
        responses, values = zip(*best_first, strict=True)
        groups.append(PreferenceGroup(prompt, responses, values, feedback[0].source))
    written.rows += WRITERS["groups"](Corpus("judged", groups=tuple(groups)), "best_worst").rows
    return written


_LAYOUTS = {"scores": _scores, "groups": _groups}


def _answers(
    answered: ReadResponses, feedback: Sequence[Feedback]
) -> list[tuple[Prompt, Response]]:
    """Yield prompt and response of each feedback."""
    prompts = {prompt.id: prompt for prompt in answered.prompts}
    responses = {response.id: response for response in answered.responses}
    return [(prompts[f.prompt_id], responses[f.response_ids[0]]) for f in feedback]


def _verdict(feedback: Feedback) -> dict[str, Any]:
    """Return the columns of a verdict; `feedback` is the column of comments."""
    verdict = feedback.verdict
    if isinstance(verdict, Critique):
        return {"feedback": verdict.text}
    if isinstance(verdict, Unscored):
        return {"score": None, "unscored": verdict.reason}
    if isinstance(verdict, Score):
        samples = list(verdict.samples) if len(verdict.samples) > 1 else None
        return {
            "score": verdict.value,
            "samples": samples,
            "spread": verdict.spread,
            "rationale": feedback.rationale or None,
        }
    raise BadInput(f"{feedback.source}: expected scores or critiques, found {verdict!r}")


def _unscored(feedback: Sequence[Feedback]) -> Counter[str]:
    verdicts = [f.verdict for f in feedback]
    return Counter(f"unscored: {v.reason}" for v in verdicts if isinstance(v, Unscored))
