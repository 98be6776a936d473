"""Command line of the pretraining script."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from scripts.pretrain_sandbox.train import WORLDS, pretrain


def main() -> None:
    """Make one of the base models that ship with the package, or a variant of it."""
    parser = argparse.ArgumentParser(prog="python -m scripts.pretrain_sandbox")
    parser.add_argument("--world", choices=sorted(WORLDS), default="knows_all")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="optimiser steps; default: as shipped")
    asked = parser.parse_args()
    config = replace(WORLDS[asked.world], seed=asked.seed)
    pretrain(config if asked.steps is None else replace(config, steps=asked.steps), asked.out)


if __name__ == "__main__":
    main()
