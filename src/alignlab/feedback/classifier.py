"""Text classifier as a feedback source: the score is the probability of one of its labels.

`classifier:FOLDER`, `classifier:FOLDER?label=toxic`: any model of transformers'
`AutoModelForSequenceClassification`, a toxicity classifier for example. It reads the response
alone. Where the labels exclude each other their probabilities come from a softmax, else (several
labels at once, or one) from a sigmoid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from alignlab.configs import PositiveInt
from alignlab.errors import BadInput
from alignlab.feedback.conversion import feedback_on, finite_score
from alignlab.protocols import flatten
from alignlab.registry import register
from alignlab.specs import read_options
from alignlab.types import Feedback, Prompt, Response, Unscored

Classify = Callable[[Sequence[str]], list[float]]
"""Function from texts to the probability of the label for each."""


class ClassifierSource:
    """Feedback source that scores a response by the probability of a label, 0 to 1."""

    def __init__(self, classify: Classify, name: str) -> None:
        self._classify = classify
        self.name = name

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one probability per response; an empty response is Unscored."""
        texts = [response.text for _, response in flatten(items)]
        scores = iter(self._classify([text for text in texts if text.strip()]))
        empty = Unscored("an empty response")
        verdicts = [finite_score(next(scores)) if text.strip() else empty for text in texts]
        return feedback_on(items, self.name, verdicts)


@dataclass(frozen=True)
class ClassifierOptions:
    """Options after `classifier:FOLDER?`."""

    label: str | int = ""
    """Label, by name or number, whose probability is the score; by default the last one."""
    max_tokens: PositiveInt = 512
    """Most tokens read of a response; longer ones are truncated."""
    batch_size: PositiveInt = 32
    """Responses per forward pass."""
    device: str = "auto"
    """Device: "auto" takes a GPU where there is one; else "cpu", "cuda", "cuda:1", ..."""


@register("feedback", "classifier", options=ClassifierOptions)
def make_classifier(rest: str) -> ClassifierSource:
    """`classifier:FOLDER[?label=toxic]`: a text classifier's probability of a label.

    Raises:
        BadInput: no folder, a model that cannot be loaded, or a label that it does not have.
    """
    named = read_options(rest, ClassifierOptions)
    if not named.name:
        raise BadInput("classifier: expected classifier:FOLDER, found no folder")
    return ClassifierSource(_load(named.name, named.options), f"classifier:{rest}")


def _load(folder: str, options: ClassifierOptions) -> Classify:
    if not (Path(folder) / "config.json").is_file():
        raise BadInput(
            f"classifier {folder}: expected a text classifier's folder with config.json, found none"
        )

    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from alignlab.models.load import device_of, without_bars
    from alignlab.models.weight_files import read_whole_model

    try:
        with without_bars():
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model = read_whole_model(AutoModelForSequenceClassification, Path(folder))
    except (OSError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise BadInput(f"classifier {folder}: expected a text classifier, found: {why}") from None
    device = device_of(options.device)
    model = model.to(device).eval()
    place = _place(folder, model.config.id2label, str(options.label))
    several = model.config.problem_type == "multi_label_classification"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id

    @torch.inference_mode()
    def classify(texts: Sequence[str]) -> list[float]:
        found: list[float] = []
        for start in range(0, len(texts), options.batch_size):
            batch = tokenizer(
                list(texts[start : start + options.batch_size]),
                padding=True,
                truncation=True,
                max_length=options.max_tokens,
                return_tensors="pt",
            ).to(device)
            logits_BL = model(**batch).logits.float()
            alone = several or logits_BL.shape[1] == 1
            chances_BL = logits_BL.sigmoid() if alone else logits_BL.softmax(-1)
            found += chances_BL[:, place].tolist()
        return found

    return classify


def _place(folder: str, names: dict[int, str], label: str) -> int:
    """Return the index of a label."""
    if not label:
        return max(names)
    by_name = {name: index for index, name in names.items()}
    if label in by_name:
        return by_name[label]
    if label.isdigit() and int(label) in names:
        return int(label)
    raise BadInput(f"classifier {folder}: expected a label of {sorted(by_name)}, found {label!r}")
