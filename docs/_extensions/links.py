"""Check a built site: every local link has its target, and nothing is loaded from elsewhere.

Usage: python links.py build/docs/html; lists what is wrong and exits with 1.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser loads by itself, by tag; a link that a reader follows may lead anywhere.
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
NOT_LOADED = {"canonical", "index", "search", "next", "prev", "author", "copyright"}


class _Page(HTMLParser):
    """The anchors of a page, what it links to, what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        address = found.get(LOADED.get(tag, ""))
        if address and not set(found.get("rel", "").split()) & NOT_LOADED:
            self.loads.append(address)
            self.links.append(address)


def problems(site: Path) -> Iterator[str]:
    """What is wrong with the pages below a folder, a line each."""
    pages = {path.resolve(): _Page(path.read_text("utf-8")) for path in site.rglob("*.html")}
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        for address in page.loads:
            if urlsplit(address).scheme in ("http", "https") or address.startswith("//"):
                yield f"{name}: loads {address} from the network"
        for address in page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{name}: {address} leads nowhere"
                continue
            anchors = pages[target].anchors if target in pages else {parts.fragment}
            if parts.fragment and not {parts.fragment, unquote(parts.fragment)} & anchors:
                yield f"{name}: {address} has no such heading"
    for sheet in site.rglob("*.css"):
        for address in re.findall(r"url\(['\"]?((?:https?:)?//[^)'\"]+)", sheet.read_text("utf-8")):
            yield f"{sheet.relative_to(site)}: loads {address} from the network"


if __name__ == "__main__":
    found = sorted(set(problems(Path(sys.argv[1]))))
    print("\n".join(found) or "links: all lead somewhere, nothing is loaded from the network")
    sys.exit(bool(found))
