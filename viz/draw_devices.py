"""Devices as cards, the ways between them, and the rows of their rendezvous."""

from __future__ import annotations

from itertools import zip_longest

from viz import format as fmt
from viz.cells import Drawing, Hit, Line, Page, fit, spread, wrap
from viz.devices_model import DevicesView, DeviceView, Sent, Waiting
from viz.palette import Palette

_COLUMN = 58  # cells that a card wants beside another
_ALIVE = 5


def draw_devices(view: DevicesView, palette: Palette, width: int) -> Drawing:
    """A card a device, side by side where there is room, under the ways between them; hits are names of nodes."""
    columns = max(1, min(len(view.devices), width // _COLUMN))
    card_width = width // columns
    hits: list[Hit] = []
    hues = {name: i for i, name in enumerate(sorted(device.name for device in view.devices))}
    page = Page(width)
    if view.ways:
        most = max(way.nbytes for way in view.ways) or 1
        for way in view.ways:
            page.add(
                (f" {fmt.device(way.source)}", palette.style(palette.hue(hues.get(way.source, -1)))),
                (" ⇢ ", palette.quiet),
                (
                    fmt.pad(fmt.device(way.destination), 8),
                    palette.style(palette.hue(hues.get(way.destination, -1))),
                ),
                (fmt.meter(way.nbytes / most, 16) + " ", palette.chart),
                (f"{fmt.nbytes(way.nbytes):>9}", palette.plain),
                (
                    f"  {fmt.plural(way.tensors, 'tensor')}" + (f", {way.dead} dead" if way.dead else ""),
                    palette.quiet,
                ),
            )
    elif len(view.devices) > 1:
        page.add((" nothing has gone from one device to another", palette.dim))
    page.words(view.note, palette.dim)
    if page.lines:
        page.blank()
    lines = page.lines
    for start in range(0, len(view.devices), columns):
        cards = [
            draw_device(device, palette, card_width - 2, hues[device.name], view.live)
            for device in view.devices[start : start + columns]
        ]
        top = len(lines)
        for row in zip_longest(*(card.lines for card in cards), fillvalue=[]):
            lines.append([piece for part in row for piece in fit(part, card_width)])
        for i, card in enumerate(cards):
            hits += [
                Hit(top + hit.row, hit.start + i * card_width, hit.end + i * card_width, hit.key)
                for hit in card.hits
            ]
        lines.append([])
    return Drawing(lines, hits, width)


def draw_device(device: DeviceView, palette: Palette, width: int, hue: int, live: bool) -> Drawing:
    """One device in `width` cells."""
    page = Page(width)
    state = device.state
    page.add(
        (" ■ ", palette.style(palette.hue(hue))),
        (fmt.device(device.name), palette.strong),
        ("  modelled" if device.modelled else "", palette.style(palette.warning, bold=True)),
        (f"  {fmt.plural(device.nodes, 'node')}", palette.quiet),
    )
    if state is not None:
        page.add((f"   {fmt.shorten(state.description, width - 4)}", palette.dim))
    if device.ran or not live:
        dead = f", {device.dead} dead" if device.dead else ""
        # What modelling a kernel takes here says nothing of the device that is modelled.
        busy = "modelling them took" if device.modelled else "busy"
        said = f"{fmt.plural(device.ran, 'execution')}{dead}; {busy} {fmt.duration(device.busy_ns)}"
        page.add(("   ran     ", palette.quiet), (said, palette.plain))
    for i, name in enumerate(device.now):
        page.add(
            (f"   {'now' if i == 0 else '':<7} ", palette.quiet),
            (fmt.shorten_name(name, width - 11), palette.style(palette.accent)),
        )
        page.mark(0, width, name)
    if state is not None:
        _memory(page, device, palette)
    for i, (name, ns) in enumerate(device.costliest[:3]):
        label = "longest" if i == 0 else ""
        page.add(
            (f"   {label:<7} ", palette.quiet),
            (fmt.shorten_name(name, width - 22), palette.plain),
            (f"  {fmt.duration(ns)}", palette.dim),
        )
        page.mark(0, width, name)
    return page.drawing()


def _memory(page: Page, device: DeviceView, palette: Palette) -> None:
    state = device.state
    assert state is not None
    width = page.width
    share = state.in_use / state.limit if state.limit else 0.0
    colour = palette.bad if share > 0.9 else palette.warning if share > 0.7 else palette.good
    page.add(
        ("   memory  ", palette.quiet),
        (f"{fmt.nbytes(state.in_use)}", palette.style(colour, bold=True)),
        (f" in use, peak {fmt.nbytes(state.peak)}, of {fmt.nbytes(state.limit)}", palette.plain),
    )
    if device.memory:
        sizes = [size for _, size in device.memory]
        page.add(
            ("           ", palette.dim),
            (fmt.sparkline(sizes, max(8, width - 32)), palette.chart),
            (f" {fmt.nbytes(max(sizes))} in this step", palette.dim),
        )
    if state.counted:
        for line in wrap(state.counted, width - 12):
            page.add(("           " + line, palette.dim))
    for i, tensor in enumerate(state.alive[:_ALIVE]):
        label = "alive" if i == 0 else ""
        page.add(
            (f"   {label:<7} ", palette.quiet),
            (f"{fmt.nbytes(tensor.nbytes):>9}  ", palette.plain),
            (fmt.shorten_name(tensor.name, width - 23), palette.quiet),
        )
    for i, stream in enumerate(state.streams):
        label = "streams" if i == 0 else ""
        page.add(
            (f"   {label:<7} ", palette.quiet),
            (f"{stream.name:<8}", palette.plain),
            (f" {stream.submitted:,} given, busy {fmt.duration(stream.busy_ns)}", palette.quiet),
            (" of a model's clock" if state.modelled else "", palette.dim),
        )


def draw_parcel_row(row: Sent | Waiting, palette: Palette, width: int) -> Line:
    """One row of the rendezvous table: who waits for what since when, or what was sent and when it was received."""
    if isinstance(row, Waiting):
        left: Line = [
            (" … ", palette.style(palette.warning, bold=True)),
            (f"{fmt.device(row.source)} ⇢ {fmt.device(row.destination)}  ", palette.quiet),
            (row.tensor, palette.plain),
        ]
        return spread(
            left, [(f"awaited for {fmt.duration(row.waited_ns)} ", palette.style(palette.warning))], width
        )
    mark, style = ("✗", palette.style(palette.bad)) if row.dead else ("✓", palette.style(palette.good))
    if row.received_ns is None:
        mark, style = "●", palette.style(palette.accent)
    left = [
        (f" {mark} ", style),
        (f"{fmt.device(row.source)} ⇢ {fmt.device(row.destination)}  ", palette.quiet),
        (fmt.shorten_name(row.tensor, max(12, width - 54)), palette.plain),
        (f" @{row.iteration}" if row.frame > 0 else "", palette.dim),
    ]
    if row.received_ns is None:
        when = f"lies there since {fmt.duration(row.sent_ns)} "
    else:
        when = f"at {fmt.duration(row.sent_ns)}, {fmt.duration(row.received_ns - row.sent_ns)} on the way "
    size = "dead" if row.dead else fmt.nbytes(row.nbytes)
    return spread(left, [(f"{size}  ", palette.plain), (when, palette.dim)], width)
