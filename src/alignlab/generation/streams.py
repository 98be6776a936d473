"""Join the events of a streamed reply: some servers and gateways stream without being asked."""

from __future__ import annotations

import json
from typing import Any


def joined_events(content: bytes) -> Any:
    """Return the chat completion that server-sent events spell out, or the first event's error.

    Raises:
        ValueError: an event is no JSON, or a choice has no end.
    """
    body: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for line in content.decode().splitlines():
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        event = json.loads(data)
        if not isinstance(event, dict) or event.get("error"):
            return event
        body |= {k: v for k, v in event.items() if k != "choices" and v is not None}
        for part in event.get("choices") or ():
            if not isinstance(part, dict):
                raise ValueError("a choice that is no object")
            _add(choices.setdefault(part.get("index") or 0, {"message": {}}), part)
    if not choices or any(choice.get("finish_reason") is None for choice in choices.values()):
        raise ValueError("a stream without its end")
    return body | {"choices": [choices[index] for index in sorted(choices)]}


def _add(choice: dict[str, Any], part: dict[str, Any]) -> None:
    """Add an event's part of a choice: texts are continued, other fields replaced."""
    message = choice["message"]
    delta = part.get("delta") or part.get("message")
    for field, value in delta.items() if isinstance(delta, dict) else ():
        held = message.get(field)
        both = isinstance(value, str) and isinstance(held, str) and field != "role"
        if value is not None:
            message[field] = held + value if both else value
    choice |= {k: v for k, v in part.items() if k not in ("delta", "message") and v is not None}
