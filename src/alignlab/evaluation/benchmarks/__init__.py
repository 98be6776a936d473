"""One benchmark per file: judged responses (or a judge to ask) in, `EvalResult` rows out.

Every benchmark here is run by `alignlab evaluate NAME`. To add one: a new file with a frozen
dataclass whose documented fields are its options and which plays `evaluation.tasks.Task` (`needs`,
`questions`, `measure`), and `@register("benchmark", name)` on it. Modules are discovered. Own judge
prompts are text files in `prompts/`.
"""
