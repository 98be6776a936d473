"""Your own reward or judge in Python: `python:FILE.py:FUNCTION`.

The function takes any of `response`, `prompt`, `reference`, `messages` by name and returns a score,
or None or an `Unscored` where it has none. In the plural (`responses`, `prompts`, `references`) it
takes lists and returns a list: one call for all responses. A function that takes `sentences`, those
of one response, returns a value for each, which `steps:` turns into rewards. The file's SHA-256 is
part of the source's name and of the run's inputs, so that a run never mixes two versions of a
reward. From Python, a function itself is a reward: `al.train("grpo", model, data, reward=mine)`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from alignlab.errors import BadInput
from alignlab.feedback.conversion import JudgeByScore, feedback_on
from alignlab.files import file_digest
from alignlab.protocols import flatten
from alignlab.registry import register
from alignlab.text import sentences, shortened
from alignlab.turns import strip_thoughts
from alignlab.types import Feedback, Prompt, Response, Score, Unscored, Verdict

FIELDS: Mapping[str, Callable[[Prompt, Response], Any]] = {
    "response": lambda prompt, response: response.text,
    "prompt": lambda prompt, response: prompt.text,
    "reference": lambda prompt, response: prompt.reference,
    "messages": lambda prompt, response: [
        {"role": m.role, "content": m.content} for m in prompt.messages
    ],
    "sentences": lambda prompt, response: sentences(strip_thoughts(response.text)),
}
"""Parameter of the function -> its value; `messages` is the conversation before the response."""
_BATCHED = {"responses": "response", "prompts": "prompt", "references": "reference",
            "conversations": "messages"}  # fmt: skip

LARGEST = 3.4028234663852886e38
"""Largest float32."""
MOST_SHOWN = 120
"""Characters of a wrong value in an error."""

_MEMORY = "memory-"
_functions: dict[str, Callable[..., Any]] = {}
"""Functions given in this session, by the SHA-256 of their source code."""


class PythonReward:
    """Feedback source that calls a function for scores."""

    def __init__(self, function: Callable[..., Any], name: str, file: Path | None = None) -> None:
        """Set up the source.

        Args:
            function: takes a response, a prompt, a reference; returns a score.
            name: name of the source in records.
            file: file that the function comes from; the errors it raises are placed in it.

        Raises:
            BadInput: the function has a parameter that is neither known nor optional.
        """
        self.name, self._function, self._file = name, function, file
        self._shown = f"{file or 'reward'}: {getattr(function, '__name__', name)}"
        self._takes, self.batched = _parameters(function, self._shown)
        self.by_sentence = "sentences" in self._takes
        self.files = {str(file): file_digest(file)} if file else {}

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one feedback per response.

        Raises:
            BadInput: the function raises, or returns NaN, infinity or something else than a score.
        """
        asked = flatten(items)
        if not self.batched:
            found = [self._call(_values(self._takes, [pair], False), [pair]) for pair in asked]
        else:
            returned = self._call(_values(self._takes, asked, True), asked) if asked else []
            if not isinstance(returned, Sequence | tuple) and not hasattr(returned, "tolist"):
                raise self._refuse(asked[0], f"a list of {len(asked)} scores", returned)
            found = returned.tolist() if hasattr(returned, "tolist") else list(returned)
            if len(found) != len(asked):
                raise self._refuse(asked[0], f"{len(asked)} scores", f"{len(found)}")
        read = self._of_sentences if self.by_sentence else self._verdict
        verdicts = [read(value, pair) for value, pair in zip(found, asked, strict=True)]
        return feedback_on(items, self.name, verdicts)

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        """Prefer the response with the higher score."""
        return JudgeByScore(self, name=self.name).compare(items, seed)

    def _call(self, values: Mapping[str, Any], asked: Sequence[tuple[Prompt, Response]]) -> Any:
        try:
            return self._function(**values)
        except (Exception, SystemExit) as error:  # of the user's own code
            lines = traceback.extract_tb(error.__traceback__)
            own = [f for f in lines if self._file and Path(f.filename) == self._file.resolve()]
            place = f", line {own[-1].lineno}" if own else ""
            found = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            raise self._refuse(asked[0], "a score", found, place) from error

    def _verdict(self, value: Any, pair: tuple[Prompt, Response]) -> Verdict:
        if value is None:
            return Unscored("the function gave no score")
        if isinstance(value, Unscored):
            return value
        if hasattr(value, "item"):  # a scalar of numpy or torch
            value = value.item() if getattr(value, "size", 1) != 0 else value
        if not isinstance(value, Real) or not _is_finite(value):
            found = (
                "an integer of many digits"
                if isinstance(value, int)
                else shortened(repr(value), MOST_SHOWN)
            )
            raise self._refuse(pair, "a finite number (float32), None or Unscored", found)
        return Score(float(value), (float(value),))

    def _of_sentences(self, value: Any, pair: tuple[Prompt, Response]) -> Verdict:
        """Return the mean of the sentences' values, which are its samples."""
        if value is None or isinstance(value, Unscored):
            return self._verdict(value, pair)
        values = value.tolist() if hasattr(value, "tolist") else value
        count = len(FIELDS["sentences"](*pair))
        if not isinstance(values, list | tuple) or len(values) != count:
            found = shortened(repr(value), MOST_SHOWN)
            raise self._refuse(pair, f"a list of {count} values, one a sentence", found)
        marks = [self._verdict(one, pair) for one in values]
        samples = tuple(one.value if isinstance(one, Score) else None for one in marks)
        read = [sample for sample in samples if sample is not None]
        if not read:
            return Unscored("the function gave no sentence a value")
        return Score(math.fsum(read) / len(read), samples)

    def _refuse(
        self, pair: tuple[Prompt, Response], expected: str, found: object, place: str = ""
    ) -> BadInput:
        """Build the one-line error with file, line, function and record."""
        shown = found if isinstance(found, str) else type(found).__name__
        file, _, function = self._shown.rpartition(": ")
        of = f"response {pair[1].id} to prompt {pair[0].id}" + (" on" if self.batched else "")
        return BadInput(f"{file}{place}, {function}, {of}: expected {expected}, found {shown}")


def _is_finite(value: Real) -> bool:
    """Return True for a finite number that a float32, in which rewards are computed, can hold."""
    try:
        return abs(float(value)) <= LARGEST
    except OverflowError:
        return False


def memory_spec(function: Callable[..., Any]) -> str:
    """Return the spec of a function given in this session; it is known by its source code."""
    try:
        code = inspect.getsource(function)
    except (OSError, TypeError):  # typed at a prompt, or a callable object
        code = repr(getattr(getattr(function, "__code__", None), "co_code", type(function)))
    name = getattr(function, "__name__", type(function).__name__).strip("<>")
    digest = hashlib.sha256(code.encode()).hexdigest()[:12]
    _functions[digest] = function
    return f"python:{_MEMORY}{digest}:{name}"


@register("feedback", "python")
def make_python_reward(rest: str) -> PythonReward:
    """`python:FILE.py:FUNCTION`: your own function of response, prompt and reference."""
    place, _, name = rest.rpartition(":")
    if place.startswith(_MEMORY):
        digest = place.removeprefix(_MEMORY)
        if digest not in _functions:
            raise BadInput(f"feedback python:{rest}: expected a function given in this session")
        return PythonReward(_functions[digest], f"python:{name} (sha256 {digest})")
    return _from_file(place, name, rest)


def _from_file(place: str, name: str, rest: str) -> PythonReward:
    file = Path(place).expanduser()
    if not place or not name.isidentifier():
        raise BadInput(f"feedback python:{rest}: expected python:FILE.py:FUNCTION")
    if not file.is_file():
        raise BadInput(f"{file}: expected a Python file, found none")
    function = getattr(_module(file), name, None)
    if not callable(function):
        found = "no such name" if function is None else type(function).__name__
        raise BadInput(f"{file}: expected a function {name!r}, found {found}")
    digest = file_digest(file)[:12]
    return PythonReward(function, f"python:{file.name}:{name} (sha256 {digest})", file)


def _module(file: Path) -> Any:
    """Import a file under a name of its own; the files next to it can be imported from it.

    Raises:
        BadInput: the file does not compile, or raises while it is imported.
    """
    name = f"alignlab_reward_{file_digest(file)[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    if spec is None or spec.loader is None:
        raise BadInput(f"{file}: expected a Python file (.py), found {file.suffix or 'no ending'}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # of the user's own code
        del sys.modules[name]
        own = [
            f
            for f in traceback.extract_tb(error.__traceback__)
            if f.filename == str(file.resolve())
        ]
        line = error.lineno if isinstance(error, SyntaxError) else (own[-1].lineno if own else None)
        place = f"{file}" + (f", line {line}" if line else "")
        found = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise BadInput(f"{place}: expected a file that can be imported, found {found}") from error
    finally:
        sys.path.remove(folder)
    return module


def _parameters(function: Callable[..., Any], shown: str) -> tuple[tuple[str, ...], bool]:
    """Return the parameters to pass, and whether they take lists.

    Raises:
        BadInput: unknown parameters without defaults, singular and plural mixed, or none known.
    """
    try:
        declared = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise BadInput(f"{shown}: expected a function with named parameters") from None
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = {n: p for n, p in declared.items() if p.kind not in kinds}
    known = {*FIELDS, *_BATCHED}
    takes = tuple(n for n in named if n in known)
    strange = [n for n, p in named.items() if n not in known and p.default is p.empty]
    plural = [n for n in takes if n in _BATCHED]
    if strange or not takes or len(plural) not in (0, len(takes)):
        found = ", ".join(named) or "none"
        raise BadInput(
            f"{shown}: expected parameters among {', '.join(FIELDS)} (one response a call) or "
            f"{', '.join(_BATCHED)} (lists), found {found}"
        )
    return takes, bool(plural)


def _values(
    takes: Sequence[str], asked: Sequence[tuple[Prompt, Response]], batched: bool
) -> dict[str, Any]:
    if batched:
        return {name: [FIELDS[_BATCHED[name]](*pair) for pair in asked] for name in takes}
    return {name: FIELDS[name](*asked[0]) for name in takes}
