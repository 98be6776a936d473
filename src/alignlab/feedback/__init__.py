"""Feedback sources behind the protocols `FeedbackSource` (rates) and `PairJudge` (compares).

To add a source, be it a judge or a reward, write one file here: a class with `name` and `rate` or
`compare` (or both), and a factory under `@register("feedback", "NAME")` that takes the text after
"NAME:" in a spec; keyword `make_completer` if it asks a model, keyword `options` if it has settings
(see `specs`). To add a judge prompt, put a text file into prompts/. A reward that is one function
needs no file here: `python:FILE.py:FUNCTION` (python_function.py).
"""
