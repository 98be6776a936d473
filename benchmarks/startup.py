"""Time of commands that import no model: median wall seconds of five starts each.

    python benchmarks/startup.py [--json]

Help, lists, settings and misspelt names are to be answered in less than a second.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

STARTS = 5
COMMANDS = (
    "--help",
    "train --help",
    "list recipes",
    "list objectives",
    "list feedback",
    "list benchmarks",
    "list data",
    "run self_rewarding --options",
    "train dpo --options",
    "evaluate mt_bench --options",
    "runn",
    "run self_rewardin",
    "run self_rewarding iteration=1",
    "train dpoo --model m --data d",
    "train dpo --model m --data d lrr=1",
    "train dpo --modle m",
    "evaluate mt_bnch --model m",
    "judge --judge longr --responses r",
)


def seconds(command: str) -> list[float]:
    """Wall seconds of several starts of a command."""
    found = []
    for _ in range(STARTS):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "alignlab", *command.split()], capture_output=True, check=False
        )
        found.append(time.perf_counter() - began)
    return found


def main() -> None:
    """Print a row per command."""
    rows = [{"command": c, "seconds": round(statistics.median(seconds(c)), 3)} for c in COMMANDS]
    if "--json" in sys.argv:
        print(json.dumps({"rows": rows}, indent=1))
        return
    for row in rows:
        print(f"{row['seconds']:6.3f} s  alignlab {row['command']}")
    print(f"{max(row['seconds'] for row in rows):6.3f} s  slowest")


if __name__ == "__main__":
    main()
