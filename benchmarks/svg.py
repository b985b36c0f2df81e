"""Drawing: the little of SVG that the plots need, and nothing that a reader's browser has to load."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif"

Point = tuple[float, float]


class Drawing:
    """A picture of a size in pixels, on white, so that it reads on a dark page, too.

    Args:
        width: In pixels.
        height: In pixels.
        title: What it shows, for those who do not see it.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family={quoteattr(FONT)}>',
            f"<title>{escape(title)}</title>",
        ]
        self.rectangle(0, 0, width, height, "#ffffff")

    def rectangle(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """A filled one."""
        size = f'width="{width:.6g}" height="{height:.6g}"'
        self._parts.append(f'<rect x="{x:.6g}" y="{y:.6g}" {size} fill="{fill}"/>')

    def line(self, points: Sequence[Point], colour: str, *, width: float = 1.0, dashed: bool = False) -> None:
        """A line through points."""
        path = " ".join(f"{x:.6g},{y:.6g}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}" '
            f'stroke-linejoin="round"{dashes}/>'
        )

    def dot(self, point: Point, colour: str, *, radius: float = 3.5, about: str = "") -> None:
        """A filled circle."""
        x, y = point
        title = f"<title>{escape(about)}</title>" if about else ""
        self._parts.append(f'<circle cx="{x:.6g}" cy="{y:.6g}" r="{radius:g}" fill="{colour}">{title}</circle>')

    def text(
        self,
        point: Point,
        text: str,
        *,
        size: float = 12,
        colour: str = "#1f2328",
        anchor: str = "start",
        bold: bool = False,
        turn: float = 0.0,
    ) -> None:
        """A line of text; `anchor` is where of it the point is, `turn` in degrees around the point."""
        x, y = point
        how = f' transform="rotate({turn:g} {x:.6g} {y:.6g})"' if turn else ""
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text x="{x:.6g}" y="{y:.6g}" font-size="{size:g}" fill="{colour}" text-anchor="{anchor}"{weight}{how}>'
            f"{escape(text)}</text>"
        )

    def done(self) -> str:
        """The whole file."""
        return "\n".join([*self._parts, "</svg>"]) + "\n"
