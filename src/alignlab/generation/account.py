"""Prices, budgets and accounting of calls to an endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from alignlab.configs import NonNegative
from alignlab.errors import BadInput, RunFailed
from alignlab.files import write_json
from alignlab.generation.cache import AnswerCache, Spent
from alignlab.generation.refusals import EndpointLimits
from alignlab.generation.replies import ChatAnswer
from alignlab.records import from_dict, to_dict
from alignlab.types import Usage


@dataclass(frozen=True)
class Prices:
    """Prices and budgets of one endpoint.

    Budgets count everything in the run's cache, earlier processes included. Dollars count at the
    prices of their time, or at these if that is more.
    """

    usd_per_million_prompt: NonNegative = 0.0
    """Price of a million prompt tokens, in dollars."""
    usd_per_million_completion: NonNegative = 0.0
    """Price of a million completion tokens, in dollars."""
    budget_usd: float | None = None
    """Dollars after which no call is started; calls under way finish and may exceed it."""
    budget_tokens: int | None = None
    """Tokens (prompt and completion) after which no call is started; calls under way finish."""
    budget_calls: int | None = None
    """Most answered calls."""

    def __post_init__(self) -> None:
        priced = self.usd_per_million_prompt > 0 or self.usd_per_million_completion > 0
        if self.budget_usd is not None and not priced:
            raise BadInput("budget_usd: expected prices per million tokens with it, found none")

    def price(self, usage: Usage) -> Spent:
        """Return the cost of tokens."""
        prompt = usage.prompt_tokens * self.usd_per_million_prompt
        return Spent(usage, (prompt + usage.tokens * self.usd_per_million_completion) / 1e6)


class Account:
    """Account of one endpoint's calls, stored in the run's cache."""

    def __init__(self, source: str, prices: Prices, cache: AnswerCache) -> None:
        self._source, self._prices, self._cache = source, prices, cache
        self._under_way = 0

    @property
    def spent(self) -> Spent:
        """Tokens and dollars so far, earlier processes included."""
        return self._cache.spent(self._source)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count a call as under way while it lasts.

        Raises:
            RunFailed: a budget is spent.
        """
        self._check()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def record(self, key: str, answer: ChatAnswer) -> None:
        """Store an answer under its key, with its cost."""
        spent = self._prices.price(answer.usage)
        self._cache.put(key, self._source, to_dict(answer), spent)

    def record_failed(self, usage: Usage) -> None:
        """Add the cost of unusable replies."""
        if usage != Usage():
            self._cache.add(self._source, self._prices.price(usage))

    def write(self) -> None:
        """Write cost and limits of all endpoints to `spent.json` in the cache's folder."""
        if self._cache.path is None:
            return
        accounts = self._cache.account()
        for source, account in accounts.items():
            if learnt := self._cache.limits(source):
                account["limits"] = from_dict(EndpointLimits, learnt).sentences()
        write_json(self._cache.path.with_name("spent.json"), accounts)

    def _check(self) -> None:
        prices = self._prices
        budgets = (prices.budget_usd, prices.budget_tokens, prices.budget_calls)
        if not any(budget is not None for budget in budgets):
            return
        spent = self.spent
        tokens = spent.usage.prompt_tokens + spent.usage.tokens
        calls = spent.usage.calls
        if calls and not tokens and budgets[:2] != (None, None):
            raise RunFailed(
                f"{self._source}: expected the endpoint to state its tokens, which a budget in "
                f"dollars or tokens counts, found none in {calls} answers; budget_calls counts "
                "calls"
            )
        usd = max(spent.usd, prices.price(spent.usage).usd)
        units = ("${:g}", "{} tokens", "{} calls")
        for budget, used, unit in zip(
            budgets, (usd, tokens, calls + self._under_way), units, strict=True
        ):
            if budget is not None and used >= budget:
                raise RunFailed(
                    f"{self._source}: the budget of {unit.format(budget)} is spent "
                    f"({spent.usage.calls} calls, {tokens} tokens, ${usd:.4f}); "
                    "the same command with a higher one goes on"
                )
