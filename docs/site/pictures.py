"""Makes the pictures of docs/images/*.svg from docs/images/*.txt.

A picture is a text of lines:

    size 760 300               width and height
    box ID X Y W H TITLE | SECOND LINE | ...       a box, with its name in bold
    soft ID X Y W H TITLE      a frame around other boxes
    arrow ID.side ID.side TEXT an arrow; side is l, r, t or b
    line X1 Y1 X2 Y2 [dashed]  a line
    go X1 Y1 X2 Y2 TEXT        an arrow between points, its text above
    text X Y TEXT              text; left of X with `right` before it, centered with `middle`
    good / bad / key ID        colors a box

usage: pictures.py [--check]    --check: fails when a picture is not the one of its text
"""

import sys
from html import escape
from pathlib import Path

DIR = Path(__file__).resolve().parent.parent / "images"

STYLE = """
  svg { color-scheme: light dark; }
  text { font: 13px system-ui, "DejaVu Sans", sans-serif; fill: #24292f; }
  .title { font-weight: 600; }
  .note { fill: #57606a; font-size: 12px; }
  .box { fill: #ffffff; stroke: #8c959f; }
  .soft { fill: #f6f8fa; stroke: #d0d7de; stroke-dasharray: 4 3; }
  .key { fill: #ddf4ff; stroke: #0969da; }
  .good { fill: #dafbe1; stroke: #1a7f37; }
  .bad { fill: #ffebe9; stroke: #cf222e; }
  .arrow { stroke: #57606a; stroke-width: 1.5; fill: none; }
  .dashed { stroke-dasharray: 4 3; }
  .head { fill: #57606a; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .note { fill: #9da7b3; }
    .box { fill: #21262d; stroke: #6e7681; }
    .soft { fill: #161b22; stroke: #444c56; }
    .key { fill: #0c2d6b; stroke: #58a6ff; }
    .good { fill: #0f3d1e; stroke: #3fb950; }
    .bad { fill: #5d1214; stroke: #f85149; }
    .arrow { stroke: #9da7b3; }
    .head { fill: #9da7b3; }
  }
"""


class Picture:
    """A picture while it is drawn."""

    def __init__(self, title: str):
        self.title, self.size, self.boxes, self.colors = title, (0, 0), {}, {}
        self.under, self.over = [], []

    def add(self, line: str):
        """Adds what a line of the text says."""
        word, _, rest = line.partition(" ")
        getattr(self, f"add_{word}")(rest)

    def add_size(self, rest: str):
        self.size = tuple(map(int, rest.split()))

    def add_box(self, rest: str, style: str = "box"):
        name, x, y, w, h, text = rest.split(" ", 5)
        self.boxes[name] = (int(x), int(y), int(w), int(h), style, text.split(" | "))

    def add_soft(self, rest: str):
        self.add_box(rest, "soft")

    def add_good(self, rest: str):
        self.colors[rest] = "good"

    def add_bad(self, rest: str):
        self.colors[rest] = "bad"

    def add_key(self, rest: str):
        self.colors[rest] = "key"

    def add_arrow(self, rest: str):
        start, end, *text = rest.split(" ", 2)
        (x1, y1), (x2, y2) = self.side(start), self.side(end)
        self.go(x1, y1, x2, y2, text[0] if text else "")

    def add_go(self, rest: str):
        x1, y1, x2, y2, *text = rest.split(" ", 4)
        self.go(int(x1), int(y1), int(x2), int(y2), text[0] if text else "")

    def add_line(self, rest: str):
        x1, y1, x2, y2, *dashed = rest.split()
        self.under.append(f'<line class="arrow {"".join(dashed)}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')

    def add_text(self, rest: str):
        anchor = "start"
        if rest.startswith(("right ", "middle ")):
            word, rest = rest.split(" ", 1)
            anchor = "end" if word == "right" else "middle"
        x, y, text = rest.split(" ", 2)
        self.write(int(x), int(y), text, "note", anchor)

    def side(self, place: str) -> tuple[int, int]:
        """The middle of a side of a box."""
        name, side = place.split(".")
        x, y, w, h, *_ = self.boxes[name]
        return {"l": (x, y + h // 2), "r": (x + w, y + h // 2), "t": (x + w // 2, y), "b": (x + w // 2, y + h)}[side]

    def go(self, x1: int, y1: int, x2: int, y2: int, text: str):
        """An arrow, with its text above its middle, or right of it when it is upright."""
        self.over.append(f'<line class="arrow" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" marker-end="url(#head)"/>')
        if text and abs(x1 - x2) < abs(y1 - y2):
            self.write((x1 + x2) // 2 + 8, (y1 + y2) // 2 + 4, text, "note", "start")
        elif text:
            self.write((x1 + x2) // 2, (y1 + y2) // 2 - 7, text, "note", "middle")

    def write(self, x: int, y: int, text: str, style: str, anchor: str):
        self.over.append(f'<text class="{style}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>')

    def draw(self) -> str:
        """The picture as SVG."""
        shapes = []
        for name, (x, y, w, h, style, lines) in self.boxes.items():
            style = self.colors.get(name, style)
            shapes.append(f'<rect class="{style}" x="{x}" y="{y}" width="{w}" height="{h}" rx="6"/>')
            is_frame = self.boxes[name][4] == "soft"
            top = y + 20 if is_frame else y + h // 2 - 9 * (len(lines) - 1) + 5
            for number, line in enumerate(lines):
                at, anchor = (x + 12, "start") if is_frame else (x + w // 2, "middle")
                self.write(at, top + 18 * number, line, "note" if number else "title", anchor)
        # frames lie under everything
        shapes.sort(key=lambda shape: 'class="soft"' not in shape)
        w, h = self.size
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img">',
            f"<title>{escape(self.title)}</title>",
            f"<style>{STYLE}</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path class="head" d="M0 0 L8 4 L0 8 z"/></marker></defs>',
        ]
        return "\n".join([*parts, *shapes, *self.under, *self.over, "</svg>", ""])


def main():
    is_check = sys.argv[1:] == ["--check"]
    for text in sorted(DIR.glob("*.txt")):
        title, *lines = text.read_text().splitlines()
        picture = Picture(title)
        for line in filter(None, lines):
            picture.add(line)
        svg = text.with_suffix(".svg")
        if not is_check:
            svg.write_text(picture.draw())
        elif not svg.exists() or svg.read_text() != picture.draw():
            sys.exit(f"{svg.name} is not the picture of {text.name}: run docs/site/pictures.py")


main()
