"""The two themes, made from the palettes that the drawings use."""

from __future__ import annotations

from textual.theme import Theme

from viz.palette import DARK, LIGHT, Palette


def theme_of(palette: Palette) -> Theme:
    """The Textual theme in the palette's colours."""
    return Theme(
        name=f"workbench-{palette.name}",
        dark=palette.dark,
        primary=palette.accent,
        secondary=palette.muted,
        accent=palette.accent,
        warning=palette.warning,
        error=palette.bad,
        success=palette.good,
        foreground=palette.text,
        background=palette.background,
        surface=palette.surface,
        panel=palette.panel,
        boost=palette.panel,
        variables={
            "block-cursor-background": palette.selection,
            "block-cursor-foreground": palette.text,
            "block-cursor-text-style": "none",
            "border": palette.panel,
            "border-blurred": palette.panel,
            "input-selection-background": palette.selection,
            "scrollbar": palette.faint,
            "scrollbar-hover": palette.muted,
            "scrollbar-active": palette.accent,
            "scrollbar-background": palette.background,
            "scrollbar-background-hover": palette.background,
            "scrollbar-background-active": palette.background,
            "scrollbar-corner-color": palette.background,
        },
    )


THEMES: dict[str, tuple[Theme, Palette]] = {
    f"workbench-{palette.name}": (theme_of(palette), palette) for palette in (DARK, LIGHT)
}
