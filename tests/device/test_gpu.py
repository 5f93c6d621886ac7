"""The op suite on a real GPU, against the CPU.  ``pytest -m gpu tests/device``; with REQUIRE_GPU=1 a missing GPU is a failure."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from model_runs import compare_case, one_each
from op_cases import Case

from engine.device.device import diagnostics, make_devices
from engine.runtime.config import ConfigProto

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def devices() -> Any:
    missing = diagnostics().get("GPU")
    if missing:
        if os.environ.get("REQUIRE_GPU") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return make_devices(ConfigProto(device_count={"GPU": 1}))


@pytest.mark.parametrize("case", one_each(), ids=str)
def test_op(case: Case, devices: Any) -> None:
    compare_case(case, *devices[:2])


def test_copies_there_and_back(devices: Any) -> None:
    gpu = devices[1]
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=size).astype(np.float32) for size in (1, 1000, 10**6)] * 20
    there = [gpu.put(array) for array in arrays]
    for array, held in zip(arrays, there, strict=True):
        np.testing.assert_array_equal(gpu.get(held), array)
    assert gpu.statistics().in_use >= 4 * 20 * 10**6
