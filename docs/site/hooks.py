"""What the site does beyond Markdown.

- Links that lead out of docs/ to files of the tree carry those files into the site, below files/.
- A screenshot is shown in light or in dark, as its reader has chosen: beside NAME.png there is
  NAME-dark.png.
- Scripts that the theme writes into each page become files, so that a server can forbid inline
  scripts (Content-Security-Policy).
"""

import hashlib
import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent.parent
#: [text](../path) and ![text](../path), path being outside docs/
LINK = re.compile(r"\]\((\.\./[^)#\s]*)(#[^)\s]*)?\)")
#: ![text](path/name.png)
SCREENSHOT = re.compile(r"!\[([^]]*)\]\(([^)\s]+)\.png\)")
#: code in a row of a table; GitHub wants its pipes escaped, mkdocs does not
CODE_IN_ROW = re.compile(r"`[^`\n]*`")
INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def outside(page: str, link: str) -> str | None:
    """The path of a linked file, from the root of the tree, when it lies outside docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    if path.startswith(("docs/", "..")) or not (ROOT / path).is_file():
        return None
    return path


def on_files(files, config):
    """Adds the files of the tree that pages link to."""
    paths = {
        path
        for file in list(files.documentation_pages())
        for link, _ in LINK.findall(file.content_string)
        if (path := outside(file.src_uri, link))
    }
    for path in sorted(paths):
        files.append(File.generated(config, f"files/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Leads those links to where the files are in the site, shows screenshots in both themes, and
    shows pipes in tables without the backslash."""

    def lead(match):
        path = outside(page.file.src_uri, match[1])
        if not path:
            return match[0]
        up = "../" * page.file.src_uri.count("/")
        return f"]({up}files/{path})"

    both = r"![\1](\2.png#only-light)![\1](\2-dark.png#only-dark)"
    rows = [
        CODE_IN_ROW.sub(lambda code: code[0].replace(r"\|", "|"), line) if line[:1] == "|" else line
        for line in markdown.split("\n")
    ]
    return SCREENSHOT.sub(both, LINK.sub(lead, "\n".join(rows)))


def on_post_page(output, page, config):
    """Moves inline scripts into files named after their digest, and names the dialog of the search
    for screen readers."""
    up = "../" * page.file.dest_uri.count("/")

    def move(match):
        name = f"assets/inline-{hashlib.sha256(match[1].encode()).hexdigest()[:16]}.js"
        target = Path(config.site_dir, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(match[1])
        return f'<script src="{up}{name}"></script>'

    named = output.replace('role="dialog"', 'role="dialog" aria-label="Search"')
    return INLINE.sub(move, named)


def on_post_build(config):
    """Removes what a server of its own has no use for: pages for what is not found, site maps."""
    for name in ["404.html", "sitemap.xml", "sitemap.xml.gz"]:
        Path(config.site_dir, name).unlink(missing_ok=True)
