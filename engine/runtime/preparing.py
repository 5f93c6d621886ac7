"""From a pruned stage to the one that runs: optimized, placed, partitioned, as far as the session's devices ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.passes.pipeline import optimize
from engine.passes.settings import Settings
from engine.passes.stage import Stage

if TYPE_CHECKING:
    from engine.device.device import Device
    from engine.placement.homes import Homes
    from engine.runtime.config import ConfigProto


def prepare(
    stage: Stage, config: ConfigProto, passes: Settings, devices: Sequence[Device], homes: Homes | None = None
) -> Stage:
    """The stage that runs for the pruned `stage`.

    homes: where the session's variables are (see `engine.placement.homes`); those that are placed now are added.
    Where the host's CPU is the only device and no node asks for one, there is nothing to place.  Where all nodes end up on one
    device, there is nothing to cut.  Raises InvalidArgumentError for a placement that cannot be.
    """
    plain = len(devices) == 1 and devices[0].plain
    if plain and stage.devices in ((), ("",)) and not config.log_device_placement:
        return optimize(stage, passes, devices=devices)
    from engine.placement.costs import StaticCosts
    from engine.placement.place import PlacementOptions, place

    stage = optimize(stage, passes, placed=False)
    costs = StaticCosts(devices)
    # With costs, a decision says when each device would have been done, also where rules alone decide.
    several = len(devices) > 1
    stage = place(stage, devices, PlacementOptions.of(config), costs if several else None, homes=homes)
    stage = optimize(stage, passes, placed=True, devices=devices)
    if len(stage.devices) > 1:
        from engine.partition.options import PartitionOptions
        from engine.partition.partition import partition

        options = PartitionOptions(config.wire_compression, config.late_receive_bytes)
        stage = partition(stage, devices, options, costs.on(stage))
    return stage
