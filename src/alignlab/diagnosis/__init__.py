"""Diagnose whether a training or a study can succeed, before it starts.

`leakage`, `labels` read data alone; `template_audit`, `off_policy` need the model, `judge_chance`
a judge. Each returns `Finding` records with the figure that decides.
"""
