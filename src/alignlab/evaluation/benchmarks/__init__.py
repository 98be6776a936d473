"""Benchmarks, one per file: judged responses (or a judge to ask) in, `EvalResult` rows out.

`alignlab evaluate NAME` runs each. To add one: a new file with a frozen dataclass whose documented
fields are its options and which implements `evaluation.tasks.BenchmarkTask` (`needs`, `questions`,
`measure`), and `@register("benchmark", name)` on it. Modules are discovered. Judge prompts of our
own are text files in `prompts/`.
"""
