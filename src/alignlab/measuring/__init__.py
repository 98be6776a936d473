"""Measure models, judges and trainings: held-out answers, audits, divergence, figures of a study.

To add one: a file with a function that takes the `RunContext`, opens `context.run.stage(name)`,
and returns `PerPromptMetric`s (a branch adds them to its `BranchResult`) or `EvalResult`s.
"""
