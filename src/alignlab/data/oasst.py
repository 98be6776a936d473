"""OpenAssistant conversations (arXiv 2304.07327) as seed data for self-rewarding models.

As in arXiv 2401.10020: IFT targets are first-turn English prompts with the answer that humans
ranked best (rank 0); EFT groups are prompts with two or more ranked answers. Whole trees are split
into train and test. Reads both published forms, flat messages and nested trees.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from alignlab.data.build_records import (
    BuildResult,
    Dropped,
    Kept,
    Origin,
    ResponseDraft,
    demonstration,
    group,
    held_out,
    prompt,
    with_changes,
)
from alignlab.data.formats import Format, table_counts
from alignlab.data.oasst_tree import PromptNode, TreeNode, grow, read_nodes
from alignlab.data.options import ReadOptions, falls_in
from alignlab.data.read import Faults, RawTable
from alignlab.data.split_dedupe import distinct_prompts, held_out_ids, of_kind, split_dedupe
from alignlab.data.unread import UnreadFields
from alignlab.errors import BadInput
from alignlab.registry import register
from alignlab.types import Corpus, Demonstration, PreferenceGroup, Prompt

_HUMAN = Origin("oasst", ordered_by="oasst humans")


@dataclass(frozen=True)
class OasstOptions(ReadOptions):
    """Options of OASST trees."""

    english: bool = True
    """Use English messages alone; false uses every language."""
    turns: Literal["first", "all"] = "first"
    """Ranked groups of the first turn alone, or of every turn with its preceding conversation."""
    test_share: float = 0.2
    """Share of the trees held out for testing, 0 to 1."""
    ift_share: float = 1.0
    """Share of the training trees whose best answer is a demonstration, 0 to 1; the prompts of
    the others go to the pool."""
    pool: Literal["unused", "all"] = "unused"
    """Prompts for sampling: training prompts without a demonstration, or all of them."""
    seed: int = 0
    """Seed of both shares."""

    def __post_init__(self) -> None:
        for name in ("test_share", "ift_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"setting {name}: expected 0 to 1, found {getattr(self, name)}")
        if self.seed and self.test_share in (0, 1) and self.ift_share in (0, 1):
            raise BadInput("setting seed: has no effect where both shares are 0 or 1")


def _corpus(self: Format, table: RawTable, options: OasstOptions, faults: Faults) -> Corpus:
    unread = UnreadFields(table.rows, options.ignore)
    table = unread.watched_table(table)
    nodes = read_nodes(table.rows, faults)
    table = unread.counted(table)
    forest = grow(nodes, english=options.english, bad=len(faults.found))
    first = [asked for asked in forest.asked if asked.node.parent is None]
    ranked = first if options.turns == "first" else forest.asked
    made_ift = [_ift(asked, options) for asked in first]
    made_groups = [held_out(_group(asked), _is_test(asked, options)) for asked in ranked]
    made_prompts = [
        _pooled(asked, isinstance(ift, Kept), options)
        for asked, ift in zip(first, made_ift, strict=True)
    ]
    test_ids = held_out_ids([*made_ift, *made_groups, *made_prompts])
    ift = split_dedupe("ift", made_ift, test_ids=test_ids)
    groups = split_dedupe("eft groups", made_groups, test_ids=test_ids)
    pool = split_dedupe("prompts", made_prompts, test_ids=test_ids)
    return Corpus(
        name=self.name,
        demonstrations=of_kind(ift.train, Demonstration),
        groups=of_kind(groups.train, PreferenceGroup),
        prompts=of_kind(pool.train, Prompt),
        test_prompts=distinct_prompts(pool.test),
        test_groups=of_kind(groups.test, PreferenceGroup),
        counts=(*table_counts(table), *forest.counts, ift.count, groups.count, pool.count),
        files=table.files,
    )


oasst = register("data", "oasst")(
    Format(
        name="oasst",
        doc="OpenAssistant conversation trees, flat or nested.",
        columns=(
            frozenset({"message_id", "parent_id", "text", "role"}),
            frozenset({"message_tree_id", "prompt"}),
        ),
        options=OasstOptions,
        corpus=_corpus,
    )
)


def _is_test(asked: PromptNode, options: OasstOptions) -> bool:
    return falls_in(options.test_share, options.seed, "oasst test", asked.node.tree)


def _ift(asked: PromptNode, options: OasstOptions) -> BuildResult:
    """Build the demonstration of the best answer to a first-turn prompt."""
    best = _best(asked)
    if best is None:
        return Dropped("no answer of rank 0" if asked.answers else "no usable answer")
    if _is_test(asked, options):
        return held_out(demonstration(asked.context, _answer(best), _HUMAN), True)
    if not falls_in(options.ift_share, options.seed, "oasst ift", asked.node.tree):
        return Dropped("left for the prompt pool")
    return demonstration(asked.context, _answer(best), _HUMAN)


def _group(asked: PromptNode) -> BuildResult:
    """Build the group of the ranked answers to a prompt; unranked answers are left out."""
    ranked = [_answer(node) for node in asked.answers if node.rank is not None]
    if len(ranked) < 2:
        return Dropped("fewer than two ranked answers")
    unranked = ["unranked answer left out"] * (len(asked.answers) - len(ranked))
    return with_changes(group(asked.context, ranked, _HUMAN), *unranked)


def _pooled(asked: PromptNode, used: bool, options: OasstOptions) -> BuildResult:
    """Build a first-turn prompt for sampling or testing, with the best answer as reference."""
    best = _best(asked)
    origin = replace(_HUMAN, reference=best.text if best else None)
    if _is_test(asked, options):
        return held_out(prompt(asked.context, origin), True)
    if used and options.pool == "unused":
        return Dropped("used for ift")
    return prompt(asked.context, origin)


def _best(asked: PromptNode) -> TreeNode | None:
    return next((node for node in asked.answers if node.rank == 0), None)


def _answer(node: TreeNode) -> ResponseDraft:
    return ResponseDraft(node.text, 0.0 if node.rank is None else -float(node.rank), node.model)
