"""What torchrun starts in `test_distributed.py`: `alignlab`, whose third save never ends.

Arguments: file that is made when the save stalls, in process 1; the arguments of alignlab.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from torch.distributed.checkpoint import HuggingFaceStorageWriter

from alignlab.cli import main

WRITE = HuggingFaceStorageWriter.write_data
saves = 0


def stalled(writer, plan, planner):
    """Write the shards; from the third time on, do not come back in process 1."""
    global saves
    saves += 1
    found = WRITE(writer, plan, planner)
    if saves == 3 and os.environ["RANK"] == "1":
        Path(stalls).touch()
        time.sleep(600)
    return found


if __name__ == "__main__":
    stalls = sys.argv.pop(1)
    HuggingFaceStorageWriter.write_data = stalled
    main()
