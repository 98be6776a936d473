"""What one endpoint has cost, and whether it may cost more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from alignlab.errors import BadInput, RunFailed
from alignlab.files import write_json
from alignlab.generation.cache import AnswerCache, Spent
from alignlab.generation.replies import ChatAnswer
from alignlab.records import to_dict
from alignlab.types import Usage


@dataclass(frozen=True)
class Tariff:
    """Prices and budgets. A budget counts all that the run's cache holds of the endpoint.

    Dollars count at the prices of their time, or at these if that is more.
    """

    usd_per_million_prompt: float = 0.0
    """Price of a million prompt tokens, in dollars."""
    usd_per_million_completion: float = 0.0
    """Price of a million completion tokens, in dollars."""
    budget_usd: float | None = None
    """Dollars after which no call is started; those under way are finished, and may go over it."""
    budget_tokens: int | None = None
    """Tokens (prompt and completion) after which no call is started, likewise."""
    budget_calls: int | None = None
    """Most calls that are answered."""

    def __post_init__(self) -> None:
        for name in ("usd_per_million_prompt", "usd_per_million_completion"):
            if getattr(self, name) < 0:
                raise BadInput(f"{name}: expected at least 0, found {getattr(self, name)}")
        priced = self.usd_per_million_prompt > 0 or self.usd_per_million_completion > 0
        if self.budget_usd is not None and not priced:
            raise BadInput("budget_usd: expected prices per million tokens with it, found none")

    def price(self, usage: Usage) -> Spent:
        """What was used, with what it costs."""
        prompt = usage.prompt_tokens * self.usd_per_million_prompt
        return Spent(usage, (prompt + usage.tokens * self.usd_per_million_completion) / 1e6)


class Account:
    """The account of one endpoint: in the run's cache, or in memory where there is none."""

    def __init__(self, source: str, tariff: Tariff, cache: AnswerCache | None) -> None:
        self._source, self._tariff, self._cache = source, tariff, cache
        self._in_memory = Spent()
        self._under_way = 0

    @property
    def spent(self) -> Spent:
        """Tokens and dollars so far, those of runs before included."""
        return self._cache.spent(self._source) if self._cache else self._in_memory

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call, if there is money for it.

        Raises:
            RunFailed: a budget is spent.
        """
        self._check()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def pay(self, key: str, answer: ChatAnswer) -> None:
        """Keep an answer under its key, with what it took."""
        spent = self._tariff.price(answer.usage)
        self._in_memory += spent
        if self._cache:
            self._cache.put(key, self._source, to_dict(answer), spent)

    def pay_for_nothing(self, usage: Usage) -> None:
        """Add what replies of no use took."""
        if usage == Usage():
            return
        spent = self._tariff.price(usage)
        self._in_memory += spent
        if self._cache:
            self._cache.add(self._source, spent)

    def write(self) -> None:
        """Write the account of all endpoints beside the cache, for whoever wants to know."""
        if self._cache:
            write_json(self._cache.path.with_name("spent.json"), self._cache.account())

    def _check(self) -> None:
        tariff = self._tariff
        if (tariff.budget_usd, tariff.budget_tokens, tariff.budget_calls) == (None, None, None):
            return
        spent = self.spent
        tokens = spent.usage.prompt_tokens + spent.usage.tokens
        calls = spent.usage.calls + self._under_way
        usd = max(spent.usd, tariff.price(spent.usage).usd)
        over = (
            (tariff.budget_usd, usd, f"${tariff.budget_usd or 0:g}"),
            (tariff.budget_tokens, tokens, f"{tariff.budget_tokens} tokens"),
            (tariff.budget_calls, calls, f"{tariff.budget_calls} calls"),
        )
        for budget, used, words in over:
            if budget is not None and used >= budget:
                took = f"{spent.usage.calls} calls, {tokens} tokens, ${usd:.4f}"
                raise RunFailed(
                    f"{self._source}: the budget of {words} is spent ({took}); "
                    "the same command with a higher one goes on"
                )
