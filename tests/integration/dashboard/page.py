"""Reads a page as its readers do: its text, links, and elements."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser

from httpx2 import Response

_VOID = {"meta", "link", "input", "br", "hr", "img"}
_CELLS = ("td", "th")
Attributes = dict[str, str | None]


class Page(HTMLParser):
    """A page that was answered, which must be whole: each element is closed, ids are there once, scripts are files."""

    def __init__(self, answer: Response, status: int = 200) -> None:
        super().__init__()
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        self.elements: list[tuple[str, Attributes]] = []
        self._open: list[str] = []
        self._words: list[str] = []
        self._link: list[tuple[str, list[str]]] = []
        self._rows: list[list[list[str]]] = []
        self.links: list[tuple[str, str]] = []
        """The address and the words of each."""
        self.feed(answer.text)
        self.close()
        assert self._open == []
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        assert not any(tag == "style" or "style" in attributes for tag, attributes in self.elements)
        assert all(tag != "script" or attributes.get("src") for tag, attributes in self.elements)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._words).split())

    def all(self, tag: str, **wanted: str) -> Iterator[Attributes]:
        """The elements with these attributes; `class_` stands for one of its classes."""
        for name, attributes in self.elements:
            given = {**attributes, "class_": ""}
            classes = (attributes.get("class") or "").split()
            if name == tag and all(
                value in classes if key == "class_" else given.get(key) == value for key, value in wanted.items()
            ):
                yield attributes

    def link(self, words: str) -> str:
        """The address of the first link with these words."""
        return next(href for href, said in self.links if said == words)

    def href(self, part: str) -> str:
        """The first address that has this part."""
        return next(href for href, _ in self.links if part in href)

    @property
    def rows(self) -> list[list[str]]:
        """The texts of the cells of its tables, the rows of headings left out."""
        rows = [[" ".join(" ".join(cell).split()) for cell in row] for row in self._rows]
        headings = [tag for tag, _ in self.elements if tag in ("thead", "tr")]
        first = {headings[:index].count("tr") for index, tag in enumerate(headings) if tag == "thead"}
        return [row for index, row in enumerate(rows) if index not in first]

    @property
    def actions(self) -> list[str]:
        """Where its forms and buttons send what changes something."""
        forms = [str(form["action"]) for form in self.all("form", method="post")]
        return forms + [str(button["formaction"]) for button in self.all("button") if "formaction" in button]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag == "tr":
            self._rows.append([])
        if tag in _CELLS:
            self._rows[-1].append([])
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "a" and attributes.get("href"):
            self._link.append((str(attributes["href"]), []))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "a" and self._link:
            href, words = self._link.pop()
            self.links.append((href, " ".join(" ".join(words).split())))

    def handle_data(self, data: str) -> None:
        self._words.append(data)
        if any(cell in self._open for cell in _CELLS):
            self._rows[-1][-1].append(data)
        if self._link:
            self._link[-1][1].append(data)
