"""Reserve the places of a task's processes together, and start those that follow rank 0.

A placement group has a bundle of resources for each process. Ray reserves all bundles or none, so
that no task waits for places while it holds others; when the group is removed, Ray ends what runs
in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from alignlab.cluster.placement import TaskResources
from alignlab.cluster.session import Session
from alignlab.cluster.worker import Ended, Order
from alignlab.errors import first_line


class Gang:
    """Places of the processes of one attempt at a task, and its followers.

    Args:
        needs: resources of each process.
    """

    def __init__(self, session: Session, needs: TaskResources, processes: int) -> None:
        from ray.util.placement_group import placement_group

        bundle = {"CPU": needs.cpus, "GPU": needs.gpus, "memory": needs.memory}
        whole = {name: float(amount) for name, amount in bundle.items() if amount}
        self._session = session
        self._group = placement_group([whole] * processes, strategy="PACK")
        self.followers: list[Any] = []
        """Ray's references to the followers that have not ended."""

    def place(self, rank: int) -> Any:
        """Return the strategy that places a rank in its bundle."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        return PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=rank)

    def start(self, follow: Any, order: Order, resources: dict[str, Any]) -> None:
        """Start the followers of a task's rank 0.

        Args:
            follow: remote function that takes an order.
        """
        for rank in range(1, order.processes):
            name, place = f"{order.name}, process {rank}", self.place(rank)
            placed = follow.options(name=name, scheduling_strategy=place, **resources)
            self.followers.append(placed.remote(replace(order, rank=rank, work=b"")))

    def lost(self, ready: Sequence[Any], timeout: float) -> str | None:
        """Take the followers that have ended; return Ray's reason where one was lost.

        Raises:
            Exception: a follower's own error.
        """
        errors = self._session.ray.exceptions
        for reference in [one for one in self.followers if one in ready]:
            self.followers.remove(reference)
            try:
                ended: Ended = self._session.ray.get(reference, timeout=timeout)
            except errors.RayError as error:
                return first_line(error)
            if ended.error is not None:
                raise ended.error
        return None

    def end(self) -> None:
        """Give the places back, and end the processes that still use them."""
        from ray.util.placement_group import remove_placement_group

        self.followers = []
        if not self._session.head.is_gone:
            with suppress(Exception):
                remove_placement_group(self._group)
