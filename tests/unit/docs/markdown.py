"""Markdown as GitHub reads it: headings and their anchors, links, code blocks with what is said of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[3]
_MARK = re.compile(r"<!--\s*(not run|from):\s*(.*?)\s*-->", re.DOTALL)


def pages() -> list[Path]:
    """Every page that a person reads, of the project itself."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    found += [
        ROOT / "charts" / "orrery" / "README.md",
        ROOT / "images" / "README.md",
        ROOT / "tests" / "cluster" / "README.md",
    ]
    return sorted(found)


@cache
def _tokens(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def anchors(text: str) -> set[str]:
    """Anchors of the headings, as GitHub makes them: lower case, punctuation dropped, spaces to dashes, numbered when repeated."""
    found: dict[str, int] = {}
    made = set()
    tokens = _tokens(text)
    for opening, inline in itertools.pairwise(tokens):
        if opening.type != "heading_open":
            continue
        words = "".join(c.content for c in inline.children or [] if c.type in ("text", "code_inline"))
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        made.add(f"{slug}-{count}" if count else slug)
    return made


def links(text: str) -> list[str]:
    """Targets of links and pictures."""
    found = []
    for token in _tokens(text):
        for child in token.children or []:
            target = child.attrGet("href") if child.type == "link_open" else None
            target = child.attrGet("src") if child.type == "image" else target
            if target:
                found.append(str(target))
    return found


@dataclass(frozen=True)
class Block:
    """A piece of code in a page."""

    page: Path
    line: int
    language: str
    words: tuple[str, ...]  #: what follows the language
    code: str
    fenced: bool
    not_run: str = ""  #: why it cannot be run, from a comment before it
    source: str = ""  #: the file it is taken from, from a comment before it

    @property
    def where(self) -> str:
        """For names of tests."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Code blocks, each with the comment that stands right before it."""
    before = ""
    for token in _tokens(page.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block"):
            marks = dict(_MARK.findall(before))
            language, *words = token.info.split() or [""]
            line = (token.map or [0])[0] + 1
            fenced = token.type == "fence"
            yield Block(
                page,
                line,
                language,
                tuple(words),
                token.content,
                fenced,
                marks.get("not run", ""),
                marks.get("from", ""),
            )
        before = token.content if token.type == "html_block" else ""
