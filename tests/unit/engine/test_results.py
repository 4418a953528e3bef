"""What a job returned, as it is kept and handed out."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv4Network
from itertools import count, repeat
from pathlib import Path
from time import process_time
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.encoders import jsonable_encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, Field, RootModel, SecretStr, computed_field

from fastapi_crons.engine.runs.result_json import result_json

LIMIT = 65_536


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Item(BaseModel):
    model_config = {"extra": "allow"}

    when: datetime = datetime(2026, 3, 1, tzinfo=timezone.utc)
    price: Decimal = Decimal("1.50")
    color: Color = Color.RED
    name: str = Field(default="x", serialization_alias="label")
    secret: str = Field(default="hidden", exclude=True)

    @computed_field
    def twice(self) -> str:
        return self.name * 2


@dataclass
class Order:
    id: uuid.UUID = field(default_factory=lambda: uuid.UUID(int=7))
    items: list[Item] = field(default_factory=lambda: [Item()])
    at: time = time(12, 30)


class Plain:
    def __init__(self) -> None:
        self.a, self.b = 1, {2}
        self._sa_instance_state = object()


class Row:
    """Reads like a mapping, as rows of databases do."""

    def keys(self) -> list[str]:
        return ["id", "when"]

    def __getitem__(self, key: str) -> object:
        return {"id": 1, "when": date(2026, 3, 1)}[key]


Point = namedtuple("Point", "x y")

SAMPLES: list[Any] = [
    datetime(2026, 3, 1, 12, tzinfo=timezone.utc),
    date(2026, 3, 1),
    time(12),
    timedelta(hours=1, microseconds=5),
    Decimal("1.10"),
    Decimal(7),
    Decimal("1E+4299"),
    Decimal("-1.5E-400"),
    uuid.UUID(int=1),
    Color.RED,
    Level.HIGH,
    {Color.RED: Level.HIGH},
    {uuid.UUID(int=1): {date(2026, 1, 1): 1}},
    {2: "a", None: "b", True: "c", 1.5: "d"},
    {1},
    frozenset({"a"}),
    (1, (2, [3])),
    Point(1, Decimal(2)),
    deque([1, 2]),
    OrderedDict(a=1),
    defaultdict(list, a=[1]),
    Path("/srv/shop"),
    b"text",
    IPv4Address("127.0.0.1"),
    IPv4Network("10.0.0.0/8"),
    SecretStr("hunter2"),
    AnyUrl("https://example.com/a"),
    re.compile("a+"),
    Item(),
    Item(more=[Decimal(1)]),  # type: ignore[call-arg]
    [Item()],
    RootModel[list[int]]([1, 2]),
    Order(),
    {"order": Order(), "rows": [Row(), Plain()]},
    "",
    [],
    {},
    [[], {}, [[]], {"a": []}],
    -0.0,
    10**300,
]


@pytest.mark.parametrize("value", SAMPLES, ids=lambda value: type(value).__name__)
async def test_a_result_is_kept_as_fastapi_would_answer_it(value: Any) -> None:
    text = await result_json(value, LIMIT)
    assert text is not None
    assert json.loads(text) == json.loads(json.dumps(jsonable_encoder(value)))
    assert text.isascii()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@settings(deadline=None)
@given(_JSON)
def test_plain_json_comes_back_as_it_was(value: Any) -> None:
    text = asyncio.run(result_json(value, LIMIT))
    if value is None:
        assert text is None
    else:
        assert text == json.dumps(value)


@settings(deadline=None)
@given(_JSON, st.integers(0, 200))
def test_a_result_is_kept_exactly_where_it_fits(value: Any, limit: int) -> None:
    text = asyncio.run(result_json(value, limit))
    whole = json.dumps(value)
    if value is not None and len(whole) > limit:
        assert json.loads(text or "")["stored"] is False
    elif value is not None:
        assert text == whole


class Endless:
    """A mapping without end."""

    def keys(self) -> Iterator[str]:
        return (str(number) for number in count())

    def __getitem__(self, key: str) -> object:
        return key


class Branch(BaseModel):
    left: Any = None
    right: Any = None


def _doubled(levels: int) -> Any:
    value: Any = ["x"]
    for _ in range(levels):
        value = [value, value]
    return value


def _doubled_model(levels: int) -> Branch:
    value = Branch(left="x")
    for _ in range(levels):
        value = Branch.model_construct(left=value, right=value)
    return value


async def _seconds(value: object) -> float:
    # Of processor time: a busy machine must not look like growth.
    began = process_time()
    kept = json.loads(await result_json(value, LIMIT) or "")
    assert (kept["stored"], kept["reason"]) == (False, "larger than 65536 bytes")
    return process_time() - began


@pytest.mark.parametrize(
    "make",
    [
        lambda size: "x" * size,
        lambda size: ["x" * size],
        lambda size: {"a": {"b": ["x" * size]}},
        lambda size: {"x" * size: 1},
        lambda size: {1: {"x" * size: 1}},
        lambda size: b"x" * size,
        lambda size: [b"x" * size],
        lambda size: Branch(left="x" * size),
        lambda size: Branch(left=["x" * size]),
        lambda size: Branch(left=[0] * size),
        lambda size: Order(items=["x" * size]),
        lambda size: [0] * size,
        lambda size: dict.fromkeys(range(size // 10)),
        lambda size: set(range(size // 10)),
        lambda size: [1 << (10 * size)],
        lambda size: Branch(left=bytearray(size)),
        lambda size: Decimal(f"1E+{size // 10}"),
        lambda size: {"a": SimpleNamespace(b=Decimal(f"1E+{size}"))},
        lambda size: {Decimal(f"-1E+{size}"): 1},
    ],
)
async def test_what_is_too_large_takes_no_longer_the_larger_it_is(make: Callable[[int], object]) -> None:
    small, large = make(1_000_000), make(40_000_000)
    await _seconds(small)
    assert await _seconds(large) < 5 * min([await _seconds(small) for _ in range(3)]) + 0.05


@pytest.mark.parametrize(
    "make",
    [
        lambda: _doubled(40),
        lambda: _doubled_model(40),
        lambda: repeat(("a", 1)),
        lambda: (number for number in count()),
        Endless,
        lambda: {"deep": [Endless()]},
    ],
)
async def test_what_has_no_end_is_noticed_at_the_limit(make: Callable[[], object]) -> None:
    await _seconds(make())


@pytest.mark.parametrize("text", ["1E+4300", "-1.5E+60000", "1E+65535"])
async def test_a_whole_decimal_that_python_does_not_write_out_is_not_kept(text: str) -> None:
    began = process_time()
    kept = json.loads(await result_json([Decimal(text)], LIMIT) or "")
    assert (kept["stored"], "digits" in kept["reason"]) == (False, True)
    assert process_time() - began < 0.1  # the number itself would take half a second and more


async def test_an_iterator_that_is_no_row_of_pairs_is_given_up_at_its_first_item() -> None:
    numbers = count()
    assert json.loads(await result_json(map(str, numbers), LIMIT) or "")["stored"] is False
    assert next(numbers) == 1


async def test_others_have_their_turns_while_a_large_result_is_encoded() -> None:
    turns, going_on = 0, True

    async def others() -> None:
        nonlocal turns
        while going_on:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(others())
    text = await result_json([[number] for number in range(300_000)], 10_000_000)
    going_on = False
    await running
    assert (text or "").endswith("[299999]]")
    assert turns > 20


def _cyclic(kind: Any) -> Any:
    inner = kind()
    if isinstance(inner, dict):
        inner["self"] = [inner]
    elif isinstance(inner, list):
        inner.append({"a": inner})
    else:
        inner.a = [inner]
    return inner


@pytest.mark.parametrize("kind", [dict, list, Plain, Order])
async def test_what_contains_itself_is_not_kept(kind: Any) -> None:
    value = _cyclic(kind)
    if kind is Order:
        value.items = [value]
    assert json.loads(await result_json(value, LIMIT) or "")["reason"] == "it contains itself"


async def test_the_same_object_may_stand_in_several_places() -> None:
    shared = {"a": [1]}
    assert await result_json([shared, shared], LIMIT) == '[{"a": [1]}, {"a": [1]}]'
