"""Fields of a request that an endpoint refuses: parsed from its error, left out from then on.

OpenAI-compatible servers differ in the fields they accept, and only their errors show it. The
wordings read here are those of OpenAI, Azure, vLLM, SGLang, TGI, llama.cpp, Mistral, Groq,
Together, xAI, DeepSeek, Gemini, and of gateways that quote them. A field is left out only where the
message names it as unsupported: a value that is too large is the user's to change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

TOP_LOGPROBS = 20
"""Most log-probabilities per token that OpenAI's API gives."""
EFFECTS = {
    "n": "samples are asked for one at a time",
    "seed": "a call repeated without the cache may be answered otherwise",
    "top_p": "the endpoint's own nucleus applies",
    "temperature": "the endpoint's own temperature applies",
    "stop": "texts are cut at stop strings here",
    "logprobs": "judges read whole verdicts",
    "system": "system instructions open the first user turn",
}
"""Fields that can be left out, and the consequence. Where an error names several, the first of
them that was sent is left out, and the request tried again."""
_LIMITS = ("max_completion_tokens", "max_tokens")
_NAMES = {
    "n": r"(?<![\w\\])n(?!\w)|\bbest_of\b",
    "logprobs": r"\b(?:top_)?log_?probs?\b",
    "system": r"\bsystem (?:role|message|prompt|instruction)|roles? \W?system|messages\[0\]\.role"
    r"|roles must alternate|user and assistant roles|developer instruction",
}
_UNSUPPORTED = re.compile(
    r"unsupported|(?:not|n't|no longer) (?:be )?(?:currently |yet )?(?:support|allow|permit|"
    r"enabled|available|implemented|accept|compatible|set|have access)|"
    r"extra_forbidden|unrecogni[sz]ed|unknown|unexpected|"
    r"can(?:not| ?not|'t) (?:both|be used|be specified)|deprecated|"
    r"only the default|only .{0,40}(?:is|are) supported|mutually exclusive|must alternate|不支持"
)
_ABOUT_CONTENT = re.compile(
    r"context.?(?:length|window)|(?:prompt|input|message).{0,30}too long|moderation|flagged|"
    r"content.?(?:filter|management|policy)|safety|responsibleai"
)
_TRANSIENT = re.compile(
    r"over.?load|rate.?limit|too many (?:concurrent |parallel )?requests|throttl|"
    r"(?:over|at|out of|no|insufficient|exceeded) (?:\w+ )?capacity|high (?:demand|load|traffic)|"
    r"\bbusy\b|resource.?exhausted|temporar(?:y|ily)|(?:service|server|upstream).{0,20}unavailable|"
    r"no healthy upstream|(?:upstream|gateway|request|server|worker).{0,20}tim(?:ed|e)[ -]?out|"
    r"(?:model|engine).{0,40}(?:is|still|currently) (?:loading|starting|warming)|"
    r"(?:try|retry)(?: \w+){0,3}? (?:later|soon|shortly|after|in (?:a |\d))"
)
"""Wordings of servers that would accept the request at another time, whatever the status."""
_AGAIN = re.compile(r"(?:try|retry)(?: \w+){0,2} again|please retry")
_TO_MEND = re.compile(
    r"valid|unsupported|modif|adjust|correct|reduc|shorten|\bfix|check|chang|missing|required|"
    r"must|expected"
)
"""Words of a message that asks for another request before the next attempt."""
_FOR_GOOD = re.compile(r"insufficient.?quota|exceeded your current quota|billing|credit balance")
_LATER = {408, 409, 425, 429}
_LEARNABLE = {400, 403, 422, 500, 501}


@dataclass(frozen=True)
class Refusal:
    """Error reply of an endpoint."""

    status: int
    text: str
    """Body of the error, without the key; lower case."""
    code: str = ""

    @property
    def is_about_content(self) -> bool:
        """True where another prompt may be accepted: this one is too long or was filtered."""
        return _ABOUT_CONTENT.search(f"{self.code} {self.text}") is not None

    @property
    def is_transient(self) -> bool:
        """True where a repeated request may be accepted later."""
        if self.code == "insufficient_quota" or self.status in {401, 402}:
            return False
        if self.status in _LATER or (self.status >= 500 and self.status != 501):
            return True
        # FastChat's codes are a status and two digits; its replies have status 400.
        code = int(self.code) if self.code.isdigit() and len(self.code) < 6 else 0
        code = code if code < 1000 else code // 100
        return code in _LATER or 500 <= code < 600 or self._asks_for_patience

    @property
    def _asks_for_patience(self) -> bool:
        """True where the words of the error say that the same request may be accepted later."""
        if self.is_about_content or _FOR_GOOD.search(self.text) or _UNSUPPORTED.search(self.text):
            return False
        if _TRANSIENT.search(f"{self.code} {self.text}"):
            return True
        return _AGAIN.search(self.text) is not None and not _TO_MEND.search(self.text)

    @property
    def ends_all_calls(self) -> bool:
        """True where key, model name or quota is refused, as it will be for every request."""
        hopeless = self.status in {401, 402, 403, 404} or self.code == "insufficient_quota"
        return hopeless and not self.is_about_content and not self.is_transient


@dataclass(frozen=True)
class EndpointLimits:
    """Departures of an endpoint from OpenAI's API."""

    without: tuple[str, ...] = ()
    """Refused fields, of `EFFECTS`."""
    token_limit_field: str = ""
    """Name of the limit of new tokens; empty where the name sent is accepted."""
    top_logprobs: int = TOP_LOGPROBS
    """Most log-probabilities per token."""
    least_tokens: int = 1
    """Smallest accepted limit of new tokens."""
    least_temperature: float = 0.0
    """Temperature sent in place of lower ones."""

    def leaving_out(self, *fields: str) -> EndpointLimits:
        """Return these limits without further fields."""
        return replace(self, without=tuple(dict.fromkeys((*self.without, *fields))))

    def apply(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Return the request as this endpoint accepts it."""
        sent = {name: value for name, value in payload.items() if name not in self.without}
        for limit in _LIMITS:
            if limit in sent:
                tokens = max(sent.pop(limit), self.least_tokens)
                renamed = "messages" in sent and self.token_limit_field
                sent[renamed or limit] = tokens
                break
        if "temperature" in sent:
            sent["temperature"] = max(sent["temperature"], self.least_temperature)
        if "logprobs" not in sent:
            sent.pop("top_logprobs", None)
        elif "top_logprobs" in sent:
            sent["top_logprobs"] = min(sent["top_logprobs"], self.top_logprobs)
        if "system" in self.without and "messages" in sent:
            sent["messages"] = _without_system(sent["messages"])
        return sent

    def learn(self, refusal: Refusal, sent: Mapping[str, Any]) -> EndpointLimits | None:
        """Return limits under which a refused request may be accepted, or None.

        Args:
            refusal: the endpoint's error.
            sent: the request as it was sent.
        """
        if refusal.status not in _LEARNABLE or refusal.is_about_content:
            return None
        named = _named(refusal.text)
        unsupported = _UNSUPPORTED.search(refusal.text) is not None
        if not unsupported and (refusal.status in (403, 500) or refusal.is_transient):
            return None
        return (
            self._learn_number(refusal.text, named, sent)
            or self._learn_limit_name(named, unsupported, sent)
            or self._learn_field(named, unsupported, sent)
        )

    def _learn_number(
        self, text: str, named: str, sent: Mapping[str, Any]
    ) -> EndpointLimits | None:
        """Return limits with a bound that the message states, or None."""
        numbers = [int(number) for number in re.findall(r"(?<![\w.-])\d{1,4}(?!\w|\.\d)", text)]
        if _names("logprobs", named) and "top_logprobs" in sent:
            fewer = [number for number in numbers if 0 < number < sent["top_logprobs"]]
            return replace(self, top_logprobs=max(fewer)) if fewer else None
        limit = next((name for name in _LIMITS if name in sent), None)
        if limit and re.search(r"max_\w*tokens", named) and re.search(r"minimum|>=|at least", text):
            more = [number for number in numbers if sent[limit] < number <= 1024]
            return replace(self, least_tokens=max(more)) if more else None
        positive = r"positive|greater than|> ?0|\(0"
        if sent.get("temperature") == 0 and _names("temperature", named):
            return replace(self, least_temperature=0.01) if re.search(positive, text) else None
        return None

    def _learn_limit_name(
        self, named: str, unsupported: bool, sent: Mapping[str, Any]
    ) -> EndpointLimits | None:
        """Return limits with the other name of the token limit, where the one sent is refused."""
        if not unsupported or self.token_limit_field or "messages" not in sent:
            return None
        for name, other in (_LIMITS, _LIMITS[::-1]):
            if name in sent and _names(name, named):
                return replace(self, token_limit_field=other)
        return None

    def _learn_field(
        self, named: str, unsupported: bool, sent: Mapping[str, Any]
    ) -> EndpointLimits | None:
        """Return limits without the first field that the message names and the request holds."""
        harmless = {"n", "seed", "stop", "logprobs"} | (
            {"top_p"} if sent.get("top_p") == 1 else set()
        )
        for field in EFFECTS:
            if not _holds(sent, field) or not _names(field, named):
                continue
            if unsupported or field in harmless:
                return self.leaving_out(field)
        return None

    def sentences(self) -> list[str]:
        """Describe each departure and its consequence."""
        found = [f"refuses {name}: {EFFECTS[name]}" for name in self.without]
        if self.token_limit_field:
            found.append(f"calls the limit of new tokens {self.token_limit_field}")
        if self.top_logprobs < TOP_LOGPROBS:
            found.append(f"gives at most {self.top_logprobs} log-probabilities per token")
        if self.least_tokens > 1:
            found.append(f"refuses limits under {self.least_tokens} tokens: longer texts are drawn")
        if self.least_temperature:
            found.append(f"refuses temperature 0: {self.least_temperature:g} is sent instead")
        return found


def hint(refusal: Refusal, sent: Mapping[str, Any]) -> str:
    """Name the option of the engine's spec that may help against a refusal."""
    named = [name for name in EFFECTS if _holds(sent, name) and _names(name, _named(refusal.text))]
    if named:
        return f"the option without={','.join(named)} leaves out what the message names"
    return (
        f"the option without=FIELD,... leaves fields out (of {', '.join(EFFECTS)}), "
        f"token_limit_field=... names the limit of new tokens"
    )


def _named(text: str) -> str:
    """Return the part of an error that names fields: the places of a validation error, else all."""
    places = re.findall(r"""['"]loc['"]: ?[\[(]([^\])]*)""", text)
    # A suggestion names another field than the one refused.
    return " ".join(places) or re.sub(r"did you mean [^?\n]*\??", "", text)


def _names(field: str, text: str) -> bool:
    return re.search(_NAMES.get(field, rf"\b{field}\b"), text) is not None


def _holds(sent: Mapping[str, Any], field: str) -> bool:
    """Return True if a request makes use of a field."""
    if field == "system":
        return any(message["role"] == "system" for message in sent.get("messages", ()))
    return field in sent and (field != "n" or sent["n"] > 1)


def _without_system(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Merge system turns into the user turn that follows."""
    folded: list[dict[str, str]] = []
    for message in messages:
        role = "user" if message["role"] == "system" else message["role"]
        if folded and folded[-1]["role"] == role:
            folded[-1]["content"] += f"\n\n{message['content']}"
        else:
            folded.append({"role": role, "content": message["content"]})
    return folded
