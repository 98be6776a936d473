"""Engines that complete chats, behind the protocols `Completer` and `ChoiceScorer`.

To add an engine, write one file here: a class with `name` and `complete(requests)` (and
`choice_logprobs` where it can score given answers), and a factory under
`@register("engine", "NAME")` that takes the text after "NAME:" in a spec, and a keyword `cache_dir`
if its calls are worth caching. `alignlab.generation.engines.completer` finds it.
"""
