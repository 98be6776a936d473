"""The one training loop, for every objective over groups of responses.

`prepare` (data.py) tokenises demonstrations and preference groups, `train` (loop.py) runs an
objective over them under a `TrainConfig` (config.py). An objective is an argument; to add one,
add a file to `alignlab.objectives`.
"""
