"""Checks what mkdocs does not: that the built site loads nothing from elsewhere and has no inline
script, that links in the Markdown at the root of the tree lead somewhere, that every picture has a
text alternative and is shown, and that the messages on the page about troubleshooting exist.

usage: check.py SITE
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
IN_CSS = re.compile(r"@import|url\(\s*['\"]?(?:https?:)?//")


class Page(HTMLParser):
    """Collects what a page loads from elsewhere, and its inline scripts."""

    def __init__(self):
        super().__init__()
        self.wrong = []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        address = found.get(LOADED.get(tag, ""), "") or ""
        if re.match(r"(https?:)?//", address):
            self.wrong.append(f"<{tag}> loads {address}")
        if tag == "script" and "src" not in found and found.get("type") != "application/json":
            self.wrong.append("an inline <script>")


def site(root: Path):
    """Yields what a page or a style sheet has that it must not have."""
    for file in sorted(root.rglob("*.html")):
        page = Page()
        page.feed(file.read_text())
        yield from (f"{file.relative_to(root)}: {wrong}" for wrong in page.wrong)
    for file in sorted(root.rglob("*.css")):
        if IN_CSS.search(file.read_text()):
            yield f"{file.relative_to(root)}: loads something from elsewhere"


def anchors(text: str) -> set[str]:
    """The anchors of Markdown, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.strip().lower()).replace(" ", "-") for h in headings}


def links(name: str):
    """Yields links of a Markdown file that lead nowhere."""
    for link in LINK.findall(CODE.sub("", (ROOT / name).read_text())):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = ROOT / (path or name)
        if not target.exists():
            yield f"{name}: {link} is not there"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
            yield f"{name}: {link} has no such heading"


def pictures():
    """Yields pictures without a text alternative, and those that no page shows."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    texts = {page: page.read_text() for page in pages}
    for page, text in texts.items():
        alternatives = [*re.findall(r"!\[([^]]*)\]\(", text), *re.findall(r'<img [^>]*alt="([^"]*)"', text)]
        for alternative in alternatives:
            if len(alternative.split()) < 5:
                yield f"{page.relative_to(ROOT)}: {alternative!r} does not say what the picture shows"
    shown = "".join(texts.values())
    for file in sorted((ROOT / "docs/images").glob("*.*g")):
        if file.name.replace("-dark.png", ".png") not in shown:
            yield f"docs/images/{file.name} is shown nowhere"


def corpus() -> str:
    """Everything that may have a message: sources, scripts, templates; strings that are written in
    several lines are joined."""
    names = ["*.rs", "*.rhai", "*.html", "init"]
    dirs = ["bty", "bty-script", "bty-web", "media", "deploy"]
    files = (file for dir in dirs for name in names for file in (ROOT / dir).rglob(name))
    text = "\n".join(file.read_text() for file in files if file.name != "tests.rs")
    return re.sub(r"\\\n\s*", "", text).replace('\\"', '"')


def messages(name: str):
    """Yields messages in the first column of a page's tables that no program has. `…` stands for
    what differs from message to message."""
    text, known = (ROOT / name).read_text(), corpus()
    rows = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    quoted = [quote for row in rows for quote in re.findall(r"`([^`]*[ …][^`]*)`", row)]
    if len(quoted) < 40:
        yield f"{name}: only {len(quoted)} messages are quoted"
    for quote in quoted:
        parts = [part.strip(" ,;:") for part in quote.split("…")]
        for part in parts:
            if part not in known:
                yield f"{name}: no program says {part!r}, which is part of {quote!r}"


wrong = [
    *site(Path(sys.argv[1])),
    *(problem for name in PAGES for problem in links(name)),
    *pictures(),
    *messages("docs/troubleshooting.md"),
]
print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
sys.exit(1 if wrong else 0)
