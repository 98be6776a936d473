"""Build OASST conversation trees from flat or nested messages, and select usable messages."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from alignlab.data.read import Faults
from alignlab.data.rows import Row
from alignlab.data.split_dedupe import STAGE
from alignlab.errors import BadInput
from alignlab.types import Count, Message, Role

_ROLES: dict[str, Role] = {"prompter": "user", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True)
class TreeNode:
    """One message of a published tree."""

    id: str
    parent: str | None
    tree: str
    text: str
    role: Role
    rank: int | None
    """Rank among siblings, 0 the best; None is unranked."""
    lang: str
    deleted: bool
    reviewed: bool | None
    """Result of the review; None without one."""
    model: str
    """Writer: "human", or a model's name."""


@dataclass(frozen=True)
class PromptNode:
    """Usable prompter message with its context and usable answers."""

    node: TreeNode
    context: tuple[Message, ...]
    """Conversation from the root to this message."""
    answers: tuple[TreeNode, ...]
    """Usable answers by rank, unranked ones last."""


@dataclass(frozen=True)
class UsableTrees:
    """Usable prompter messages, with counts of all messages and trees."""

    asked: tuple[PromptNode, ...]
    counts: tuple[Count, ...]


def read_nodes(rows: Sequence[Row], faults: Faults) -> list[TreeNode]:
    """Read nodes from flat or nested rows; a repeated message id is a bad record."""
    nodes: list[TreeNode] = []
    seen: set[str] = set()
    for row in rows:
        try:
            of_row = list(_nested(row) if row.has("prompt") else [_node(row, None, None)])
            for node in of_row:
                if node.id in seen:
                    raise row.bad("message_id", f"an id that comes once, not {node.id} again")
                seen.add(node.id)
        except BadInput as error:
            faults.add(error)
            continue
        nodes += of_row
    return nodes


def grow(nodes: Sequence[TreeNode], *, english: bool, bad: int) -> UsableTrees:
    """Collect the usable messages of all trees: reviewed, not deleted, with usable ancestors.

    Args:
        nodes: messages of all trees.
        english: drop messages in other languages.
        bad: number of unreadable messages, for the count.
    """
    reasons: Counter[str] = Counter({"bad record": bad} if bad else {})
    asked: list[PromptNode] = []
    kept = reached = 0
    for step in _walk(nodes, english):
        reached += 1
        if step.reason:
            reasons[step.reason] += 1
            continue
        kept += 1
        if step.node.role == "user":
            asked.append(PromptNode(step.node, step.context, _usable_answers(step.below, english)))
    if reached < len(nodes):
        reasons["parents in a circle"] = len(nodes) - reached
    trees = {node.tree for node in nodes}
    rooted = {node.tree for node in nodes if _is_root(node)}
    usable = {each.node.tree for each in asked if each.node.parent is None}
    lost = {"root missing": len(trees - rooted), "root not usable": len(rooted - usable)}
    counts = (
        Count(STAGE, "messages", kept, dict(reasons)),
        Count(STAGE, "trees", len(usable), {why: n for why, n in lost.items() if n}),
    )
    return UsableTrees(tuple(asked), counts)


@dataclass(frozen=True)
class _Step:
    """One visited message."""

    node: TreeNode
    context: tuple[Message, ...]
    below: tuple[TreeNode, ...]
    """Direct replies."""
    reason: str
    """Reason to drop the message; empty if usable."""


def _walk(nodes: Sequence[TreeNode], english: bool) -> Iterator[_Step]:
    """Visit every message below a root or an orphan, parents before replies."""
    children: dict[str | None, list[TreeNode]] = defaultdict(list)
    known = {node.id for node in nodes}
    for node in nodes:
        children[node.parent if node.parent in known else None].append(node)
    stack: list[tuple[TreeNode, tuple[Message, ...], bool]] = [
        (node, (), _is_root(node)) for node in reversed(children[None])
    ]
    while stack:
        node, before, whole = stack.pop()
        reason = _why_not(node, english)
        if not reason and not whole:
            reason = "under a missing or dropped message"
        step = _Step(
            node, (*before, Message(node.role, node.text)), tuple(children[node.id]), reason
        )
        yield step
        stack += [(child, step.context, not reason) for child in reversed(step.below)]


def _is_root(node: TreeNode) -> bool:
    return node.parent is None and node.role == "user"


def _why_not(node: TreeNode, english: bool) -> str:
    """Return the reason to drop a message, ancestors aside; empty if usable."""
    if english and node.lang != "en":
        return "not English"
    if node.deleted:
        return "deleted"
    if node.reviewed is None:
        return "not reviewed"
    if not node.reviewed:
        return "failed review"
    return "" if node.text.strip() else "empty"


def _usable_answers(below: Sequence[TreeNode], english: bool) -> tuple[TreeNode, ...]:
    usable = [n for n in below if n.role == "assistant" and not _why_not(n, english)]
    last = len(below)
    return tuple(sorted(usable, key=lambda n: last if n.rank is None else n.rank))


def _nested(row: Row) -> Iterator[TreeNode]:
    """Read all messages of a nested tree, parents before replies."""
    tree = row.text("message_tree_id")
    stack: list[tuple[Row, str | None]] = [(row.row("prompt"), None)]
    while stack:
        message, parent = stack.pop()
        node = _node(message, tree, parent)
        yield node
        replies = message.rows("replies") if message.has("replies") else []
        stack += [(reply, node.id) for reply in reversed(replies)]


def _node(row: Row, tree: str | None, parent: str | None) -> TreeNode:
    role = _ROLES.get(row.text("role"))
    if role is None:
        raise row.bad("role", "prompter or assistant")
    identity = row.text("message_id")
    return TreeNode(
        id=identity,
        parent=parent or row.optional_text("parent_id"),
        tree=tree or row.optional_text("message_tree_id") or identity,
        text=row.text("text"),
        role=role,
        rank=row.whole("rank", range(1000)) if row.has("rank") else None,
        lang=row.text("lang"),
        deleted=row.truth("deleted") if row.has("deleted") else False,
        reviewed=row.truth("review_result") if row.has("review_result") else None,
        model=row.optional_text("model_name") or "human",
    )
