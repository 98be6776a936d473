"""Add a strict Content-Security-Policy to pages that are one file.

Scripts and styles are allowed by SHA-256 alone, so markup written by a model or a user executes
nothing even if it reached the page unescaped. Style attributes cannot be hashed one by one in every
browser; they become classes of the page's style sheet.
"""

from __future__ import annotations

import base64
import hashlib
import re

_BLOCK = re.compile(r"<(script|style)([^>]*)>(.*?)</\1>", re.DOTALL)
_TAG_WITH_STYLE = re.compile(r"<([a-z]+)((?:\s[^<>]*?)?)\sstyle=\"([^\"]*)\"([^<>]*)>")
_CLASS = re.compile(r"(\sclass=\")([^\"]*)\"")


def content_security_policy(html: str, *, connect: bool = False) -> str:
    """Compute the policy that allows a page its own inline scripts and styles and nothing else.

    Args:
        connect: also allow requests to the server that the page came from.
    """
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, attributes, content in _BLOCK.findall(html):
        if "application/json" not in attributes:
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            hashes[kind].append(f"'sha256-{digest}'")
    rules = ["default-src 'none'"]
    rules += [f"{kind}-src {' '.join(found)}" for kind, found in hashes.items() if found]
    rules += ["img-src data:", "base-uri 'none'", "form-action 'none'"]
    return "; ".join([*rules, "connect-src 'self'"] if connect else rules)


def with_policy(html: str) -> str:
    """Add the policy to a page's head, and replace its style attributes by classes."""
    html = styles_to_classes(html)
    meta = (
        f'<meta http-equiv="Content-Security-Policy" content="{content_security_policy(html)}">\n'
    )
    charset = '<meta charset="utf-8">\n'
    return html.replace(charset, charset + meta, 1)


def styles_to_classes(html: str) -> str:
    """Replace style attributes by classes, whose rules end the page's last style element."""
    names: dict[str, str] = {}

    def replaced(found: re.Match[str]) -> str:
        tag, before, style, after = found.groups()
        name = names.setdefault(style, f"at{len(names)}")
        attributes = before + after
        if _CLASS.search(attributes):
            attributes = _CLASS.sub(rf'\1\2 {name}"', attributes, count=1)
        else:
            attributes += f' class="{name}"'
        return f"<{tag}{attributes}>"

    html = _TAG_WITH_STYLE.sub(replaced, html)
    # A name three times outweighs the rules of the style sheet, as the attribute did.
    rules = "".join(f"\n.{n}.{n}.{n} {{ {style} }}" for style, n in names.items())
    return html.replace("</style>", f"{rules}\n</style>", 1) if rules else html
