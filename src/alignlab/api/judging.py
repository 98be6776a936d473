"""Rate responses with judges and rewards, compare pairs, and audit judges."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from alignlab import configs
from alignlab.api import settings as known
from alignlab.api.folders import place_for, writing
from alignlab.api.generating import file_rows, short
from alignlab.api.inputs import DataLike, JudgeLike, data_spec, judge_spec, source_spec
from alignlab.api.models import Conversation
from alignlab.api.results import CardResult, FileResult, Judgements
from alignlab.errors import BadInput


class Judge:
    """Feedback source, or a model used as a judge."""

    def __init__(self, spec: str, role: Literal["judge", "reward"] = "judge") -> None:
        self.spec = spec
        """Feedback source or engine, as given."""
        self.role: Literal["judge", "reward"] = role
        source_spec(spec)  # an unknown name is refused here

    def rate(
        self,
        prompts: DataLike | Sequence[Conversation],
        responses: Sequence[str] | Sequence[Sequence[str]] | None = None,
        *overrides: str,
        out: str | Path | None = None,
        config: str | Path | None = None,
        repair: bool = False,
        **settings: Any,
    ) -> Judgements:
        """Rate responses.

        Args:
            prompts: a prompt per response or per list of responses; without `responses`, data that
                holds both.
            responses: texts, or a list of texts for each prompt.
            overrides: settings, such as to=groups or limit=100.
            out: file to write: .jsonl, .jsonl.gz or .parquet.
            config: YAML file of settings, under the others.
            repair: compute the damaged stages of the run in OUT.run again.
            settings: settings by keyword, as in overrides.

        Returns:
            A row per response, `score` None if unscored; `scores` holds them in the order given.

        Raises:
            BadInput: an unknown setting, different numbers of prompts and responses, or data
                without responses.
            RunFailed: the work could not be finished; the same call resumes.
        """
        configs.refuse_unknown(known.judging().options, known.given(config, overrides, settings))
        asked = None if responses is None else _paired(prompts, responses)
        data = data_spec(prompts if asked is None else asked)  # type: ignore[arg-type]
        place = place_for(out, f"{self.role}-{short(self.spec)}", "judged.jsonl")

        from alignlab.commands.judge import rate

        with writing(place, repair=repair):
            written = rate(
                overrides, source_spec(self.spec), data, place, config=config, settings=settings,
                role=self.role,
            )  # fmt: skip
        judged = Judgements(written, file_rows(written.path))
        if asked is not None and any("completion" in row for row in judged.rows):
            by_text = {_key(row): row.get("score") for row in judged.rows}
            # An empty prompt or response is dropped and counted: no judge was asked.
            judged.scores = [by_text.get(_key(row)) for row in asked]
        return judged

    def compare(
        self,
        prompts: Sequence[Conversation],
        first: Sequence[str],
        second: Sequence[str],
        *,
        out: str | Path | None = None,
        seed: int = 0,
        repair: bool = False,
    ) -> FileResult:
        """Compare two responses to each prompt, each pair in both orders.

        Args:
            prompts: one per pair.
            first: the first response of each pair, whose win rate is measured.
            second: the second response of each pair.
            out: file to write: .jsonl, .jsonl.gz or .parquet.
            seed: seed of every random draw.
            repair: compute the damaged stages of the run in OUT.run again.

        Returns:
            A row per pair: `value` 1 if the first is better, 0.5 for a tie, 0 if the second is,
                None if the verdict is unreadable; `note` holds the win rate with its 95% interval.

        Raises:
            BadInput: different numbers of prompts and responses, or a source that cannot compare.
            RunFailed: the work could not be finished; the same call resumes.
        """
        pairs = [
            {"prompt": a["prompt"], "first": a["completion"], "second": b["completion"]}
            for a, b in zip(_paired(prompts, first), _paired(prompts, second), strict=True)
        ]
        place = place_for(out, f"compare-{short(self.spec)}", "compared.jsonl")

        from alignlab.commands.judge import compare

        with writing(place, repair=repair):
            written = compare(source_spec(self.spec, pairs=True), pairs, place, seed=seed)
        return FileResult(written, file_rows(written.path))

    def audit(
        self,
        data: DataLike | Sequence[DataLike],
        *,
        out: str | Path | None = None,
        **settings: Any,
    ) -> CardResult:
        """Measure a judge's biases and its agreement with people: see `judge_card`."""
        return judge_card(self, data, out=out, **settings)

    def __repr__(self) -> str:
        return f"<Judge {self.spec}>"


@overload
def judge(judge: JudgeLike, /) -> Judge: ...
@overload
def judge(
    judge: JudgeLike,
    responses: DataLike,
    *overrides: str,
    out: str | Path | None = None,
    config: str | Path | None = None,
    repair: bool = False,
    **settings: Any,
) -> Judgements: ...
def judge(
    judge: JudgeLike,
    responses: DataLike | None = None,
    *overrides: str,
    out: str | Path | None = None,
    config: str | Path | None = None,
    repair: bool = False,
    **settings: Any,
) -> Judge | Judgements:
    """Rate responses with a feedback source, or resume the rating.

    Args:
        judge: feedback source from `alignlab list feedback`, or an engine.
        responses: data with responses, as PATH or FORMAT:PATH, or a study's run directory for its
            held-out answers; in Python, without it, a handle of the judge is returned.
        overrides: settings, such as to=groups or limit=100.
        out: file to write: .jsonl, .jsonl.gz or .parquet.
        config: YAML file of settings, under the others.
        repair: compute the damaged stages of the run in OUT.run again.
        settings: settings by keyword, as in overrides.

    Raises:
        BadInput: an unknown setting or source, data without responses, or an existing output file.
        RunFailed: the work could not be finished; the same call resumes.
    """
    judged_by = Judge(judge_spec(judge))
    if responses is None:
        return judged_by
    where: dict[str, Any] = {"out": out, "config": config, "repair": repair}
    return judged_by.rate(responses, None, *overrides, **where, **settings)


@overload
def reward(reward: JudgeLike, /) -> Judge: ...
@overload
def reward(
    reward: JudgeLike,
    responses: DataLike,
    *overrides: str,
    out: str | Path | None = None,
    config: str | Path | None = None,
    repair: bool = False,
    **settings: Any,
) -> Judgements: ...
def reward(
    reward: JudgeLike,
    responses: DataLike | None = None,
    *overrides: str,
    out: str | Path | None = None,
    config: str | Path | None = None,
    repair: bool = False,
    **settings: Any,
) -> Judge | Judgements:
    """Score responses with a reward, or resume the scoring.

    Args:
        reward: feedback source from `alignlab list feedback`; in Python also the result of training
            a reward model.
        responses: data with responses, as PATH or FORMAT:PATH, or a study's run directory for its
            held-out answers; in Python, without it, a handle of the reward is returned.
        overrides: settings, such as to=groups or limit=100.
        out: file to write: .jsonl, .jsonl.gz or .parquet.
        config: YAML file of settings, under the others.
        repair: compute the damaged stages of the run in OUT.run again.
        settings: settings by keyword, as in overrides.

    Raises:
        BadInput: an unknown setting or source, data without responses, or an existing output file.
        RunFailed: the work could not be finished; the same call resumes.
    """
    scored_by = Judge(judge_spec(reward), "reward")
    if responses is None:
        return scored_by
    where: dict[str, Any] = {"out": out, "config": config, "repair": repair}
    return scored_by.rate(responses, None, *overrides, **where, **settings)


def judge_card(
    judge: JudgeLike,
    data: DataLike | Sequence[DataLike],
    *overrides: str,
    out: str | Path | None = None,
    config: str | Path | None = None,
    repair: bool = False,
    **settings: Any,
) -> CardResult:
    """Measure a judge's agreement with people, its biases and cost, and call it fit or unfit.

    Guesses are measured on the same pairs (the longer answer wins, the better writer wins); a judge
    that does not beat them is unfit. The rules are in docs/judges.md.

    Args:
        judge: feedback source from `alignlab list feedback`, or an engine.
        data: [NAME=]FORMAT:PATH of compared answers, or a folder with PandaLM, LLMBar, MT-Bench's
            pairs or AlpacaEval's lists; may be repeated.
        overrides: settings, such as n=100 attacked=50 own=gpt-4.
        out: run directory; its card.json, card.md and report.html hold the card.
        config: YAML file of settings, under the others.
        repair: compute the damaged stages of the run in `out` again.
        settings: settings by keyword, as in overrides.

    Raises:
        BadInput: an unknown setting, or data without compared answers.
        RunFailed: the work could not be finished; the same call resumes.
    """
    configs.refuse_unknown(known.judge_card().options, known.given(config, overrides, settings))
    spec = source_spec(judge_spec(judge), pairs=True)
    several: Any = data
    rows = isinstance(data, str | Path) or not isinstance(data, Sequence)
    if rows or (data and isinstance(several[0], Mapping)):
        several = [data]
    place = place_for(out, f"judge-card-{short(spec)}")

    from alignlab.commands.judge_card import judge_card as run_card

    with writing(place, repair=repair):
        specs = [data_spec(one) for one in several]
        found = run_card(spec, specs, place, *overrides, config=config, **settings)
    return CardResult(found, place)


def _paired(
    prompts: Any, responses: Sequence[str] | Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    """Return a row for each response with its prompt."""
    for name, given in (("prompts", prompts), ("responses", responses)):
        if isinstance(given, str):
            raise BadInput(f"{name}: expected a list, found the text {given!r}")
    if len(prompts) != len(responses):
        raise BadInput(
            "expected lists of as many responses (or lists of responses) as prompts, found "
            f"{len(prompts)} prompts and {len(responses)} responses"
        )
    rows = []
    for number, (prompt, several) in enumerate(zip(prompts, responses, strict=True), start=1):
        texts = [several] if isinstance(several, str) else several
        if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
            raise BadInput(
                f"responses: entry {number}: expected a text or a list of texts, found {several!r}"
            )
        rows += [{"prompt": prompt, "completion": text} for text in texts]
    return rows


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return prompt and response of a row, as texts or turns."""
    return tuple(map(_text, (row["prompt"], row["completion"])))  # type: ignore[return-value]


def _text(turns: Any) -> str:
    if isinstance(turns, str):
        return turns.strip()
    if len(turns) == 1:
        return str(turns[0]["content"]).strip()
    return json.dumps([[turn["role"], turn["content"]] for turn in turns])
