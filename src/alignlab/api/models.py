"""Answer prompts with a model, score responses under it, and save it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from alignlab import registry
from alignlab.api.inputs import ModelLike, model_spec
from alignlab.api.results import Result
from alignlab.errors import BadInput
from alignlab.run_models import MODEL_FILES
from alignlab.types import Checkpoint, Role

if TYPE_CHECKING:
    from alignlab.models.load import LanguageModel
    from alignlab.protocols import Completer
    from alignlab.types import Message

Conversation = str | Sequence[Mapping[str, str]]
"""User turn as text, or turns as {"role": ..., "content": ...}."""


class ModelMethods:
    """Generation, log-probabilities and saving of a model whose weights are loaded on first use."""

    @property
    def _label(self) -> str:
        """Name in titles of results."""
        raise NotImplementedError

    @property
    def lm(self) -> LanguageModel:
        """The transformers model with its tokenizer."""
        raise NotImplementedError

    @property
    def engine(self) -> Completer:
        """Generator of the model's answers."""
        raise NotImplementedError

    def generate(
        self,
        prompts: Sequence[Conversation],
        *,
        n: int = 1,
        temperature: float = 0.7,
        top_p: float = 0.9,
        max_tokens: int = 256,
        seed: int = 0,
    ) -> Result:
        """Answer prompts in memory (`al.generate` writes a file).

        Args:
            prompts: texts of a user's turn, or conversations.
            n: answers per prompt.
            temperature: 0 is greedy.
            top_p: nucleus mass.
            max_tokens: maximum number of tokens of an answer.
            seed: seed of every random draw.

        Returns:
            A row per answer: `prompt`, `completion`, `finish` and `tokens`; a failed answer has
                `completion` None and `error`.
        """
        from alignlab.types import CompletionRequest, Sampling

        for name, value in (("n", n), ("max_tokens", max_tokens), ("seed", seed)):
            if not isinstance(value, int):
                raise BadInput(f"{name}: expected a whole number, found {value!r}")
        sampling = Sampling(temperature, top_p, max_tokens, n)
        asked = _conversations(prompts)
        requests = [
            CompletionRequest(str(i), _messages(one), sampling, seed) for i, one in enumerate(asked)
        ]
        rows = []
        for prompt, several in zip(asked, self.engine.complete(requests), strict=True):
            for one in several:
                failed = one.finish == "error"
                row = {"prompt": prompt, "completion": None if failed else one.text}
                rows.append(row | {"finish": one.finish, "tokens": one.tokens})
                if failed:
                    rows[-1]["error"] = one.error
        return Result(rows, f"{len(rows)} answers of {self._label}")

    def logprobs(self, prompts: Sequence[Conversation], responses: Sequence[str]) -> Result:
        """Compute the log-probabilities of given responses.

        Args:
            prompts: one per response.
            responses: texts; the end-of-turn token is scored with each.

        Returns:
            A row per response: `prompt`, `response`, `logprob` (sum, nats), `tokens` (nats each).

        Raises:
            BadInput: different numbers of prompts and responses, or a response that with its prompt
                exceeds the model's context.
        """
        from alignlab.models.chat_template import encode_prompt, encode_response
        from alignlab.models.load import context_length
        from alignlab.models.logprobs import response_logprobs
        from alignlab.models.packed import TokenGroup

        asked = _conversations(prompts)
        if isinstance(responses, str) or not all(isinstance(r, str) for r in responses):
            raise BadInput(f"logprobs: expected a list of texts, found {responses!r}")
        if len(asked) != len(responses):
            raise BadInput(f"logprobs: expected a response for each of {len(asked)} prompts")
        groups = [
            TokenGroup(
                str(i),
                tuple(encode_prompt(self.lm, _messages(prompt))),
                (tuple(encode_response(self.lm, text)),),
            )
            for i, (prompt, text) in enumerate(zip(asked, responses, strict=True))
        ]
        most = context_length(self.lm)
        for number, group in enumerate(groups, start=1):
            if group.tokens > most:
                raise BadInput(
                    f"logprobs: response {number}: expected at most {most} tokens with its prompt, "
                    f"the model's context, found {group.tokens}"
                )
        found = response_logprobs(self.lm, groups)
        rows = [
            {"prompt": p, "response": r, "logprob": one.sums[0], "tokens": list(one.tokens[0])}
            for p, r, one in zip(asked, responses, found, strict=True)
        ]
        return Result(rows, f"log-probabilities under {self._label}")

    def save(self, path: str | Path) -> Path:
        """Write weights, tokenizer and chat template as a Hugging Face folder, adapters merged.

        Args:
            path: folder to make; a model that is there is replaced.

        Raises:
            BadInput: a file, or a folder of something else.
        """
        from alignlab.models.load import save

        folder = Path(path)
        other = folder.is_dir() and any(folder.iterdir()) and not _is_model(folder)
        if folder.is_file() or other:
            raise BadInput(f"{folder}: expected an empty folder, a model's or none")
        return save(self.lm, folder)


class Model(ModelMethods):
    """Validated model whose weights are loaded on first use."""

    def __init__(
        self, spec: str, device: str, dtype: str, adapter: str, chat_template: str
    ) -> None:
        self.spec = spec
        """Folder, hub id or engine."""
        self.settings: dict[str, Any] = {
            key: value
            for key, value in (("adapter", adapter), ("chat_template", chat_template))
            if value
        }
        """Settings that a training of this model inherits."""
        self._device, self._dtype = device, dtype
        kind = spec.partition(":")[0]
        self._remote = ":" in spec and kind in registry.names("engine")
        if self._remote and kind in registry.names("model"):  # sandbox: a model or a teacher
            self._remote = not _is_checkpoint(spec)
        if self._remote:
            self.engine  # noqa: B018 - a spec that cannot be made is refused here
        else:
            from alignlab.context import Hardware
            from alignlab.models.dtypes import check_dtype
            from alignlab.models.facts import model_facts

            check_dtype(dtype)
            Hardware(device or "auto")  # refuses a device that is not here
            self.facts = model_facts(self.path, chat_template=chat_template or None)
            """Architecture, parameters, layers, vocabulary and context in tokens."""

    @property
    def _label(self) -> str:
        return self.spec

    @property
    def path(self) -> str:
        """Folder or hub id of the model."""
        from alignlab.context import resolve_model

        return resolve_model(self.spec).path

    @cached_property
    def lm(self) -> LanguageModel:
        """The transformers model with its tokenizer.

        Raises:
            BadInput: the model is on a server, or has no safetensors weights.
        """
        import transformers

        from alignlab.models.load import load

        if self._remote:
            raise BadInput(f"{self.spec}: expected a model on this machine, found an engine")
        # Its bars are for loading from a network.
        transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        return load(self.path, device=self._device or None, dtype=self._dtype, **self.settings)

    @cached_property
    def engine(self) -> Completer:
        """Generator of the model's answers."""
        from alignlab.generation import engines
        from alignlab.generation.local import LocalEngine
        from alignlab.training.conditioning import with_best_reward_prefix

        if self._remote:
            return engines.completer(self.spec)
        return with_best_reward_prefix(LocalEngine(self.lm), self.lm.path)

    def __repr__(self) -> str:
        return f"<Model {self.spec}>"


class TrainedModel(ModelMethods, Checkpoint):
    """Checkpoint of a training or a study that answers prompts, its weights loaded on first use.

    `al.load_model(checkpoint, device=..., dtype=...)` loads it otherwise than by default.
    """

    @cached_property
    def _loaded(self) -> Model:
        return load_model(self)

    @property
    def _label(self) -> str:
        return self.path

    @property
    def lm(self) -> LanguageModel:
        """The transformers model with its tokenizer.

        Raises:
            BadInput: no safetensors weights.
        """
        return self._loaded.lm

    @property
    def engine(self) -> Completer:
        """Generator of the model's answers."""
        return self._loaded.engine


def load_model(
    model: ModelLike,
    *,
    device: str = "",
    dtype: str = "auto",
    adapter: str = "",
    chat_template: str = "",
) -> Model:
    """Validate a model and return a handle that generates, scores and saves.

    Args:
        model: folder, run directory, GGUF file, package:NAME, hub id, engine
            (openai:MODEL@URL, ...), Checkpoint, or a training's result.
        device: "cpu", "cuda", ...; empty uses a GPU if there is one.
        dtype: "float32", "bfloat16", "float16", or "auto" (bfloat16 from 10 million parameters on
            a GPU, or a CPU fast in it; else float32).
        adapter: folder or hub id of a PEFT adapter for the model.
        chat_template: chatml, plain, zephyr or a file, for a model without a chat template.

    Raises:
        BadInput: no such model, or one without safetensors weights or chat template.
    """
    return Model(model_spec(model), device, dtype, adapter, chat_template)


def _is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in MODEL_FILES)


def _is_checkpoint(spec: str) -> bool:
    kind, _, name = spec.partition(":")
    try:
        registry.get("model", kind)(name)
    except BadInput:
        return False
    return True


def _conversations(prompts: Sequence[Conversation]) -> list[Conversation]:
    if isinstance(prompts, str | bytes | Mapping) or not isinstance(prompts, Iterable):
        raise BadInput(f"expected a list of prompts, found {prompts!r}")
    return list(prompts)


def _messages(prompt: Conversation) -> tuple[Message, ...]:
    from alignlab.types import Message

    if isinstance(prompt, str):
        return (Message("user", prompt),)
    try:
        turns = [(turn["role"], turn["content"]) for turn in prompt]
    except (KeyError, TypeError):
        turns = []
    if not turns or not all(r in get_args(Role) and isinstance(c, str) for r, c in turns):
        raise BadInput(f"prompt: expected turns with role and content, found {prompt!r}")
    return tuple(Message(role, content) for role, content in turns)  # type: ignore[arg-type]
