"""GPUs: real ones through CuPy, or modelled ones, as `GPUOptions.modelled` says.

A session has them when it asks: ``ConfigProto(device_count={"GPU": 1})``.  CuPy is imported then, and not before.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.device.device import Device, register
from engine.device.modelled.parameters import GPUModel
from engine.types import errors, site

if TYPE_CHECKING:
    from engine.runtime.config import ConfigProto


def _make(config: ConfigProto) -> Sequence[Device]:
    count = config.device_count.get("GPU", 0)
    options = config.gpu_options
    if not count:
        return ()
    modelled: Any = options.modelled
    if not isinstance(modelled, bool | GPUModel) and modelled != "auto":
        raise errors.InvalidArgumentError(
            None, None, f"GPUOptions.modelled must be True, False, 'auto' or a GPUModel, not {modelled!r}"
        )
    if modelled is False or modelled == "auto":
        missing = diagnose()
        if not missing:
            from engine.device.cupy_backend import cupy_gpus

            return cupy_gpus(count, options)
        if modelled is False:
            warnings.warn(
                f"{missing}; the session goes without", RuntimeWarning, stacklevel=site.stacklevel()
            )
            return ()
    from engine.device.modelled.device import modelled_gpus

    parameters = modelled if isinstance(modelled, GPUModel) else GPUModel()
    return modelled_gpus(count, parameters, options.per_process_gpu_memory_fraction)


def diagnose() -> str:
    """One line that says why there are no GPUs here; '' if there are."""
    try:
        import cupy
    except ImportError as error:
        if getattr(error, "name", None) != "cupy":
            return f"No GPU: CuPy does not load: {error}"
        return (
            "No GPU: CuPy is not installed (pip install 'dataflow-workbench[gpu]' for CUDA 12, [gpu13] for 13); "
            "GPUOptions(modelled=True) models one"
        )
    try:
        if cupy.cuda.runtime.getDeviceCount() > 0:
            return ""
        told = "there is none in this machine"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        told = str(error)
    return f"No GPU: CuPy {cupy.__version__} is installed, but {told}"


register("GPU", _make, diagnose=diagnose)
