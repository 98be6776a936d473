"""Train models by objectives over groups of responses.

`prepare_for` (record_kinds.py) tokenises records, `train` (loop.py) runs an objective over them
under a `TrainConfig` (config.py), `train_rollouts` (rollouts.py) over sampled responses. To add an
objective, add a file to `alignlab.objectives`.
"""
