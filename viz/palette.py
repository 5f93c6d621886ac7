"""The colours of every drawing, twice: for dark and for light backgrounds.

Eight hues of equal lightness tell scopes (and op families) apart; text has three strengths; accents are few.  A drawing asks a
palette for `Style` objects and never names a colour itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from rich.color import Color
from rich.style import Style


@lru_cache(maxsize=4096)
def _style(fg: str | None, bg: str | None, bold: bool, italic: bool, underline: bool, strike: bool) -> Style:
    return Style(
        color=Color.parse(fg) if fg else None,
        bgcolor=Color.parse(bg) if bg else None,
        bold=bold or None,
        italic=italic or None,
        underline=underline or None,
        strike=strike or None,
    )


@lru_cache(maxsize=4096)
def mix(colour: str, other: str, share: float) -> str:
    """`share` of `other` in `colour`, both ``#rrggbb``."""
    channels = (
        round(int(colour[i : i + 2], 16) * (1 - share) + int(other[i : i + 2], 16) * share) for i in (1, 3, 5)
    )
    return "#" + "".join(f"{channel:02x}" for channel in channels)


@dataclass(frozen=True, eq=False)
class Palette:
    """Colours as ``#rrggbb``; `hues` are for scopes and families, `other` for what has no hue of its own."""

    name: str
    dark: bool
    background: str
    surface: str
    panel: str
    selection: str
    text: str
    muted: str
    faint: str
    accent: str
    good: str
    warning: str
    bad: str
    incoming: str
    outgoing: str
    hues: tuple[str, ...]
    other: str

    def style(
        self,
        fg: str | None = None,
        bg: str | None = None,
        *,
        bold: bool = False,
        italic: bool = False,
        underline: bool = False,
        strike: bool = False,
    ) -> Style:
        """A style from two colours; equal arguments give the same object."""
        return _style(fg, bg, bold, italic, underline, strike)

    def hue(self, index: int) -> str:
        """The hue number `index`; the neutral one for a negative number."""
        return self.other if index < 0 else self.hues[index % len(self.hues)]

    def tint(self, colour: str, strength: float = 0.2) -> str:
        """`colour`, thinned into the background."""
        return mix(self.background, colour, strength)

    def on(self, colour: str) -> str:
        """The text colour that reads on a patch of `colour`."""
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return "#10141b" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"

    @cached_property
    def plain(self) -> Style:
        return self.style(self.text)

    @cached_property
    def strong(self) -> Style:
        return self.style(self.text, bold=True)

    @cached_property
    def quiet(self) -> Style:
        return self.style(self.muted)

    @cached_property
    def dim(self) -> Style:
        return self.style(self.faint)

    @cached_property
    def chart(self) -> Style:
        """Small charts: the accent, but quieter than what it marks elsewhere."""
        return self.style(mix(self.accent, self.background, 0.3))

    @cached_property
    def title(self) -> Style:
        return self.style(self.muted, bold=True)


DARK = Palette(
    name="dark",
    dark=True,
    background="#11151c",
    surface="#171c25",
    panel="#222936",
    selection="#2c3950",
    text="#d6dce7",
    muted="#8f99ab",
    faint="#566073",
    accent="#7fb0ff",
    good="#86c07e",
    warning="#d9b25f",
    bad="#ec7f78",
    incoming="#7fb0ff",
    outgoing="#e8b06a",
    hues=("#79a8f0", "#e0a064", "#86c07e", "#d98cb3", "#5fc1c4", "#cdbb5f", "#a899ee", "#e5877c"),
    other="#8f99ab",
)

LIGHT = Palette(
    name="light",
    dark=False,
    background="#fbfbfa",
    surface="#f2f3f4",
    panel="#e4e7eb",
    selection="#cfdcf2",
    text="#232a35",
    muted="#5d6778",
    faint="#a3abb8",
    accent="#2459b8",
    good="#34752f",
    warning="#8a6400",
    bad="#b3362e",
    incoming="#2459b8",
    outgoing="#a3570a",
    hues=("#2f62b5", "#9c570f", "#3a7534", "#a3427a", "#157b80", "#756300", "#6350b8", "#b0463b"),
    other="#5d6778",
)
