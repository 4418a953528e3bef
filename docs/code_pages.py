"""Describes classes, functions and names in Markdown, from the source text alone: nothing depends on what is installed."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Entry:
    """One name on a page."""

    path: str
    """`module:name`, in the module that defines it."""
    members: bool = True
    without: tuple[str, ...] = ()
    """Members that are left out."""
    only: tuple[str, ...] = ()
    """The only members that are shown, where there are any."""
    package: str = ""
    """Where it is imported from, if not from a package that holds it."""
    about: str = ""
    """What is said of it beside its docstring."""
    bases: tuple[str, ...] = ()
    """Base classes whose members are shown as its own."""

    @property
    def name(self) -> str:
        """As it is imported."""
        return self.path.partition(":")[2]


@dataclass(frozen=True)
class Section:
    """A heading, what stands below it, and what is described there."""

    title: str
    entries: tuple[Entry, ...]
    text: str = ""


def page(title: str, text: str, sections: Sequence[Section]) -> str:
    """A page of the reference."""
    parts = [f"# {title}\n\n{text.strip()}\n"]
    for section in sections:
        parts.append(f"\n## {section.title}\n")
        if section.text:
            parts.append(f"\n{section.text.strip()}\n")
        parts += map(_described, section.entries)
    return "".join(parts)


def classes_of(module: str, without: str) -> tuple[Entry, ...]:
    """The public classes that a module defines, but for one."""
    found = (node.name for node in _tree(module)[0].body if isinstance(node, ast.ClassDef))
    return tuple(Entry(f"{module}:{name}") for name in found if name != without and not name.startswith("_"))


@cache
def _tree(module: str) -> tuple[ast.Module, tuple[str, ...]]:
    file = importlib.import_module(module).__file__
    assert file is not None
    source = Path(file).read_text(encoding="utf-8")
    return ast.parse(source), tuple(source.splitlines())


def _described(entry: Entry) -> str:
    module = entry.path.partition(":")[0]
    imported = f"`from {entry.package or _import_from(module, entry.name)} import {entry.name}`"
    tree, lines = _tree(module)
    node = next(node for node in tree.body if entry.name in _names_of(node))
    if isinstance(node, ast.ClassDef):
        parts = [f"{imported}{_called(node)}", _about(ast.get_docstring(node)), entry.about]
        parts.append("\n".join(_members(entry, node, lines)) if entry.members else "")
    elif isinstance(node, _Function):
        parts = [imported, f"`{_signature(node.name, node)}`", _about(ast.get_docstring(node)), entry.about]
    else:
        assert isinstance(node, (ast.Assign, ast.AnnAssign))
        assert node.value is not None
        value = ast.unparse(node.value)
        # What a hook marker or the like is made of says nothing to a reader.
        value = f"`{entry.name} = {value}`" if "[" in value else ""
        parts = [value, _comment_above(node, lines) or "", entry.about]
    return f"\n### {entry.name}\n\n" + "\n\n".join(filter(None, parts)) + "\n"


def _names_of(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return {node.name}
    if isinstance(node, ast.AnnAssign):
        return {ast.unparse(node.target)}
    return {ast.unparse(target) for target in node.targets} if isinstance(node, ast.Assign) else set()


def _called(node: ast.ClassDef) -> str:
    """How it is made, or what it is a kind of."""
    init = next((each for each in node.body if isinstance(each, _Function) and each.name == "__init__"), None)
    if init is not None:
        return f"\n\n`{_signature(node.name, init, returns=False)}`"
    bases = ", ".join(base for base in map(ast.unparse, node.bases) if base not in ("ABC", "NamedTuple", "Protocol"))
    return f"; a `{bases}`" if bases and "[" not in bases else ""


def _import_from(module: str, name: str) -> str:
    """The shortest package that exports the name."""
    parts = module.split(".")
    for end in range(1, len(parts)):
        package = importlib.import_module(".".join(parts[:end]))
        if name in getattr(package, "__all__", ()):
            return ".".join(parts[:end])
    return module


def _members(entry: Entry, node: ast.ClassDef, lines: Sequence[str]) -> Iterator[str]:
    for path in entry.bases:
        module, _, base = path.partition(":")
        tree, base_lines = _tree(module)
        inherited = next(each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == base)
        own = {name for member in node.body for name in _names_of(member)}
        yield from _members(Entry(path, without=(*entry.without, *own)), inherited, base_lines)
    overloads: list[str] = []
    for at, member in enumerate(node.body):
        name = next(iter(_names_of(member)), "_")
        if name.startswith("_") or name in entry.without or (entry.only and name not in entry.only):
            continue
        if isinstance(member, ast.AnnAssign):
            after = node.body[at + 1] if at + 1 < len(node.body) else None
            yield _item(_field(member), _text_of(after) or _comment_above(member, lines))
        elif isinstance(member, _Function) and "overload" in map(ast.unparse, member.decorator_list):
            overloads.append(_member(member))
        elif isinstance(member, _Function):
            yield _item(", ".join(overloads) or _member(member), ast.get_docstring(member))
            overloads.clear()


def _field(node: ast.AnnAssign) -> str:
    declared = f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}"
    value = node.value
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "field":
        value = next((each.value for each in value.keywords if each.arg == "default"), None)
    return f"`{declared}`" if value is None else f"`{declared} = {ast.unparse(value)}`"


def _member(node: _Function) -> str:
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    if "property" in decorators:
        assert node.returns is not None
        return f"`{node.name}: {ast.unparse(node.returns)}`"
    kinds = [kind for kind in ("classmethod", "staticmethod", "abstractmethod") if kind in decorators]
    said = f" ({', '.join(kind.replace('abstractmethod', 'abstract') for kind in kinds)})" if kinds else ""
    prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return f"`{prefix}{_signature(node.name, node)}`{said}"


def _signature(name: str, node: _Function, returns: bool = True) -> str:
    shown = re.sub(r"^(self|cls)(, |$)", "", ast.unparse(node.args))
    # Defaults of annotated parameters are written with blanks.
    shown = re.sub(r"(?<=[\w\])'\"])=(?=\S)", " = ", shown)
    given = f" -> {ast.unparse(node.returns)}" if returns and node.returns is not None else ""
    return f"{name}({shown}){given}"


def _item(declared: str, about: str | None) -> str:
    text = _about(about).replace("\n", "\n  ").replace("\n  \n", "\n\n")
    return f"- {declared}" + (f": {text}" if text else "")


def _text_of(node: ast.stmt | None) -> str | None:
    value = node.value if isinstance(node, ast.Expr) else None
    return inspect.cleandoc(value.value) if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def _comment_above(node: ast.stmt, lines: Sequence[str]) -> str | None:
    said: list[str] = []
    for line in reversed(lines[: node.lineno - 1]):
        if not line.strip().startswith("#:"):
            break
        said.insert(0, line.strip().removeprefix("#:").strip())
    return "\n".join(said) or None


def _about(text: str | None) -> str:
    """A docstring as Markdown: only its blocks of code are written differently."""
    return re.sub(r"::$", ":", text or "", flags=re.MULTILINE)
