"""`dtype=auto` is measured once a machine, and never touches what is random."""

from __future__ import annotations

import json

import pytest
import torch

from alignlab.errors import BadInput
from alignlab.models import dtypes
from alignlab.models.dtypes import by_default, device_of, resolve_dtype, throughput

CPU = torch.device("cpu")
MANY = dtypes.LEAST_PARAMETERS


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine whose products take the given GFLOP/s, measured into an empty cache."""
    monkeypatch.setenv("ALIGNLAB_CACHE", str(tmp_path / "cache"))
    speeds, calls = {"float32": 100.0, "bfloat16": 400.0}, []

    def measured(dtype, size=0, repeats=0, multiply=None):
        name = str(dtype).removeprefix("torch.")
        calls.append(name)
        return speeds[name]

    monkeypatch.setattr(dtypes, "matrix_gflops", measured)
    dtypes.bfloat16_is_native.cache_clear()
    yield speeds, calls
    dtypes.bfloat16_is_native.cache_clear()


def test_auto_is_bfloat16_where_its_products_are_fast(machine):
    assert resolve_dtype("auto", CPU, MANY) == "bfloat16"
    assert resolve_dtype("auto", CPU, MANY - 1) == "float32"
    assert resolve_dtype("float32", CPU, MANY) == "float32"


@pytest.mark.parametrize("bfloat16", [40.0, 140.0])
def test_auto_is_float32_where_bfloat16_brings_little(machine, bfloat16):
    speeds, _ = machine
    speeds["bfloat16"] = bfloat16
    assert resolve_dtype("auto", CPU, MANY) == "float32"


def test_the_measurement_is_made_once_a_machine(machine, tmp_path):
    _, calls = machine
    assert throughput() == {"float32": 100.0, "bfloat16": 400.0}
    before = len(calls)
    assert throughput() == {"float32": 100.0, "bfloat16": 400.0}
    assert len(calls) == before
    file = tmp_path / "cache" / "machine.json"
    (kept,) = json.loads(file.read_text()).values()
    assert kept == {"float32": 100.0, "bfloat16": 400.0}
    file.write_text("{")  # a damaged cache is measured again
    assert throughput() == {"float32": 100.0, "bfloat16": 400.0}
    assert len(calls) > before


def test_measuring_leaves_random_numbers_and_threads_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    assert dtypes.matrix_gflops(torch.float32, 64, 1) > 0
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads


def test_auto_in_a_spec_is_the_commands_own(machine):
    with by_default("cpu", "float32"):
        assert resolve_dtype("auto", CPU, MANY) == "float32"
        assert resolve_dtype("bfloat16", CPU, MANY) == "bfloat16"
        assert device_of("auto") == CPU
    assert resolve_dtype("auto", CPU, MANY) == "bfloat16"


@pytest.mark.parametrize(
    ("device", "message"),
    [("mps", "no float64"), ("nonsense", "expected auto, cpu or cuda, found 'nonsense'")],
)
def test_a_device_that_cannot_serve_is_refused_in_one_line(device, message):
    with pytest.raises(BadInput, match=message) as found:
        device_of(device)
    assert "\n" not in str(found.value)


def test_an_unknown_type_is_refused():
    with pytest.raises(BadInput, match="expected one of auto, float32, bfloat16, float16"):
        resolve_dtype("half", CPU, MANY)
