"""The policy of pages: only their own scripts and styles run."""

from __future__ import annotations

import base64
import hashlib
import re

from alignlab.report.policy import content_security_policy, with_policy

PAGE = """<html>
<head>
<meta charset="utf-8">
<style>p { color: red }</style>
</head>
<body>
<span class="y" style="top: 12%">a</span><td style="top: 12%">b</td><i style="left: 3%" id="i">c</i>
<script type="application/json" id="data">{"a": 1}</script>
<script>run()</script>
</body>
</html>
"""


def digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def test_only_executed_scripts_and_styles_are_allowed_by_hash() -> None:
    policy = content_security_policy(PAGE)
    assert digest("run()") in policy
    assert digest("p { color: red }") in policy
    assert digest('{"a": 1}') not in policy
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")
    assert "connect-src" not in policy
    assert "connect-src 'self'" in content_security_policy(PAGE, connect=True)


def test_style_attributes_become_classes_of_the_hashed_sheet() -> None:
    page = with_policy(PAGE)
    assert "style=" not in page
    assert '<span class="y at0">' in page
    assert '<td class="at0">' in page
    assert '<i id="i" class="at1">' in page
    sheet = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert sheet is not None
    assert ".at0.at0.at0 { top: 12% }" in sheet[1]
    assert ".at1.at1.at1 { left: 3% }" in sheet[1]
    stated = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert stated is not None
    assert digest(sheet[1]) in stated[1]
    assert page.index("charset") < page.index("Content-Security-Policy") < page.index("<style>")
