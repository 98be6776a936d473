"""CPUs, GPUs and memory of tasks, and how many run at once, by hand."""

from __future__ import annotations

import pytest

from alignlab.cluster.placement import PROCESS_BYTES, Layout, Node, TaskResources, needs_gpu
from alignlab.errors import BadInput
from alignlab.generation.vllm_sampler import VllmSamplerOptions

GB = 10**9
SMALL = Node("10.0.0.1", 2, 0, 4 * GB)
LARGE = Node("10.0.0.2", 8, 0, 16 * GB)
GPUS = Node("10.0.0.3", 64, 8, 500 * GB)


@pytest.fixture(autouse=True)
def _no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.parametrize(
    ("node", "needs", "slots"),
    [
        (SMALL, TaskResources(1), 2),
        (SMALL, TaskResources(1, 0, 3 * GB), 1),  # memory
        (SMALL, TaskResources(4), 0),
        (SMALL, TaskResources(1, 1), 0),  # no GPU
        (GPUS, TaskResources(8, 1, 100 * GB), 5),
        (GPUS, TaskResources(8, 2), 4),
    ],
)
def test_slots_of_a_node(node: Node, needs: TaskResources, slots: int):
    assert needs.slots(node) == slots


def test_cpus_are_shared_out_and_none_gets_more_than_the_smallest_node_has():
    layout = Layout([SMALL, LARGE], memory=GB)
    assert layout.needs(1) == TaskResources(2, 0, GB + PROCESS_BYTES)  # not 10: no node has so many
    assert layout.needs(5).cpus == 2  # 10 CPUs for 5 tasks
    assert layout.needs(6).cpus == 1
    assert layout.needs(100).cpus == 1
    assert layout.at_once(5) == 5  # 1 on the small node, 4 on the large one
    assert layout.at_once(100) == 10


def test_threads_and_their_usual_number_are_kept(monkeypatch: pytest.MonkeyPatch):
    assert Layout([LARGE], threads=4).needs(100).cpus == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert Layout([LARGE]).needs(1).cpus == 3


def test_a_gpu_each_and_its_part_of_the_cpus():
    layout = Layout([SMALL, GPUS], gpu=True)
    assert layout.needs(4).cpus == 8  # 64 CPUs for 8 GPUs
    assert layout.needs(4).gpus == 1
    assert layout.at_once(100) == 8


def test_a_plan_above_every_node_takes_the_largest_alone():
    layout = Layout([SMALL, LARGE], memory=100 * GB)
    assert layout.needs(2).memory == 16 * GB
    assert layout.at_once(2) == 1


def test_no_more_at_once_than_asked_for():
    assert Layout([LARGE], most=3).at_once(8) == 3
    lines = list(Layout([SMALL, LARGE], memory=2 * GB, most=3).lines(10))
    assert lines == [
        "up to 10 tasks ready at a time, 1 CPU, 2.5 GB each: 3 at once, at most 3",
        "10.0.0.1: 2 CPUs, 4.0 GB; 1 task at once",
        "10.0.0.2: 8 CPUs, 16.0 GB; 6 tasks at once",
    ]


def test_what_no_node_can_run_is_refused():
    with pytest.raises(BadInput, match=r"node with 16 CPUs, 0\.5 GB for a task, found 10"):
        Layout([LARGE], threads=16).at_once(2)
    with pytest.raises(BadInput, match="expected nodes that run tasks, found none"):
        Layout([]).needs(1)


def test_engines_keep_their_place_and_tasks_share_the_rest():
    layout = Layout([SMALL, LARGE], memory=3 * GB, engines=3, engine_memory=GB)
    # 10 CPUs among 3 engines and a task, at most the 2 of the small node.
    assert layout.engine_needs() == TaskResources(2, 0, GB + PROCESS_BYTES)
    # Room for 1 engine and 4: the large node has 4, 3, 2 left after each of three.
    assert layout.places == (LARGE, LARGE, LARGE)
    left = Node("10.0.0.2", 2, 0, 16 * GB - 3 * (GB + PROCESS_BYTES))
    assert layout.left == (SMALL, left)
    assert layout.needs(4) == TaskResources(1, 0, 3 * GB + PROCESS_BYTES)  # 4 CPUs for 4 tasks
    assert layout.at_once(4) == 3  # memory for one on the small node
    assert list(layout.lines(4)) == [
        "up to 4 tasks ready at a time, 1 CPU, 3.5 GB each: 3 at once",
        "3 engines that sample and judge for them, 2 CPUs, 1.5 GB each",
        "10.0.0.1: 2 CPUs, 4.0 GB; 1 task at once",
        "10.0.0.2: 8 CPUs, 16.0 GB; 3 engines, 2 tasks at once",
    ]
    assert Layout([SMALL, LARGE]).left == (SMALL, LARGE)


def test_processes_of_a_task_are_placed_on_any_nodes():
    layout = Layout([SMALL, LARGE], memory=GB, threads=2, processes=4)
    assert layout.needs(3) == TaskResources(2, 0, GB + PROCESS_BYTES)
    assert layout.at_once(3) == 1  # room for 1 process and 4
    assert list(layout.lines(3)) == [
        "up to 3 tasks ready at a time, 4 processes of 2 CPUs, 1.5 GB each: 1 at once",
        "10.0.0.1: 2 CPUs, 4.0 GB; 1 process at once",
        "10.0.0.2: 8 CPUs, 16.0 GB; 4 processes at once",
    ]
    # 10 CPUs among 4 processes, at most the 2 of the small node; of 2 such tasks among 8.
    assert [Layout([SMALL, LARGE], processes=4).needs(tasks).cpus for tasks in (1, 2)] == [2, 1]
    assert Layout([GPUS, GPUS], gpu=True, processes=16).at_once(3) == 1
    with pytest.raises(
        BadInput, match=r"expected nodes with room for 6 processes \(2 CPUs, 0\.5 GB"
    ):
        Layout([SMALL, LARGE], threads=2, processes=6).at_once(1)
    with pytest.raises(BadInput, match=r"room for 2 engines .* and a task of 8 processes, found"):
        Layout([LARGE], threads=1, engines=2, processes=8).at_once(1)
    assert Layout([LARGE], threads=1, engines=2, processes=6).at_once(1) == 1


def test_engines_are_spread_over_nodes_with_gpus():
    other = Node("10.0.0.4", 64, 8, 500 * GB)
    layout = Layout([SMALL, GPUS, other], gpu=True, engines=5)
    assert [node.address for node in layout.places] == [
        "10.0.0.4", "10.0.0.3", "10.0.0.4", "10.0.0.3", "10.0.0.4"
    ]  # fmt: skip
    assert [node.gpus for node in layout.left] == [0, 5 + 1, 5]
    assert layout.at_once(100) == 11


def test_an_engine_by_vllm_has_all_its_gpus_on_one_node():
    vllm = VllmSamplerOptions(gpus=4)
    layout = Layout([GPUS], gpu=True, engines=1, vllm=vllm, library="vLLM 0.32.0")
    assert layout.engine_needs().gpus == 4
    assert [node.gpus for node in layout.left] == [4]
    assert list(layout.lines(1))[1].startswith("1 engine (vLLM 0.32.0) that sample")
    assert Layout([SMALL], engines=1, vllm=vllm).engine_needs().gpus == 0
    with pytest.raises(BadInput, match=r"room for 2 engines \(.*, 4 GPUs, .* and a task, found"):
        Layout([GPUS], gpu=True, engines=2, vllm=vllm).at_once(1)


def test_engines_without_room_for_a_task_are_refused():
    assert Layout([Node("a", 3, 0, 4 * GB)], engines=2).at_once(4) == 1
    for wrong in (
        Layout([SMALL], engines=2),  # its CPUs
        Layout([Node("a", 8, 0, 4 * GB)], engines=2, memory=3 * GB, engine_memory=GB),
        Layout([Node("a", 8, 2, 64 * GB)], gpu=True, engines=2),
        Layout([SMALL], engines=5),
    ):
        with pytest.raises(BadInput, match=r"hardware\.engines: expected a cluster with room for"):
            wrong.at_once(1)


@pytest.mark.parametrize(
    ("device", "nodes", "found"),
    [("auto", [SMALL], False), ("auto", [SMALL, GPUS], True), ("cuda", [GPUS], True),
     ("cpu", [GPUS], False)],
)  # fmt: skip
def test_who_gets_a_gpu(device: str, nodes: list[Node], found: bool):
    assert needs_gpu(device, nodes) is found


def test_a_gpu_that_is_not_there_or_named_is_refused():
    with pytest.raises(BadInput, match=r"a cluster with GPUs, found none on its 1 node$"):
        needs_gpu("cuda", [SMALL])
    with pytest.raises(BadInput, match="a GPU of its own, found 'cuda:1'"):
        needs_gpu("cuda:1", [GPUS])
