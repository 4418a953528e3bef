"""Arguments are checked against annotations, those of `**kwargs` and those that can't be evaluated among them, and once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from pydantic import AfterValidator
from typing_extensions import Unpack

from fastapi_crons import CronJob, InvalidArgumentError, JobDefinitionError
from fastapi_crons.job import ManualRun

if TYPE_CHECKING:
    from decimal import Decimal as Money


class Options(TypedDict, total=False):
    rows: int


def numbers(region: str = "all", **more: int) -> None: ...


def unsaid(**more) -> None: ...  # type: ignore[no-untyped-def]


def options(**more: Unpack[Options]) -> None: ...


def priced(region: str = "all", price: Money | None = None) -> None: ...


def priced_by_name(**prices: Money) -> None: ...


def listed(prices: list[Money]) -> None: ...


listed.__annotations__["prices"] = list["Money"]  # as where annotations are not text


def no_type(region: "eu or us") -> None: ...  # type: ignore[valid-type]  # noqa: F821, UP037


def quoted(price: "Money") -> None: ...  # noqa: UP037


def of_attribute(region: pytest.NoSuchType) -> None: ...  # type: ignore[name-defined]


def job(function: Callable[..., object], **kwargs: Any) -> CronJob:
    return CronJob(function, "0 * * * *", "job", kwargs=kwargs)


def wrapped(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> object:
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize("function", [numbers, wrapped(numbers), functools.partial(numbers, "eu")])
def test_each_value_of_the_open_arguments_is_checked_and_converted(function: Callable[..., object]) -> None:
    assert job(function, limit="5", rows=3).kwargs == {"limit": 5, "rows": 3}
    with pytest.raises(JobDefinitionError, match="kwargs of job 'job': argument 'rows' can't be 'many'"):
        job(function, limit=5, rows="many")
    assert ManualRun(job(function), kwargs={"rows": "4"}, texts=True).kwargs == {"rows": 4}
    with pytest.raises(InvalidArgumentError, match="argument 'rows' can't be 'many'"):
        ManualRun(job(function), kwargs={"rows": "many"})


@pytest.mark.parametrize("function", [unsaid, options])
def test_open_arguments_without_one_type_for_all_are_taken_as_they_are(function: Callable[..., object]) -> None:
    assert job(function, rows="3").kwargs == {"rows": "3"}


@pytest.mark.parametrize(
    ("function", "kwargs", "said"),
    [
        (priced, {"price": 1}, "annotation 'Money | None' can't be evaluated: there is no 'Money' in its module when"),
        (priced_by_name, {"price": 1}, "there is no 'Money' in its module when the job is defined; import it outside"),
        (quoted, {"price": 1}, "there is no 'Money' in its module"),
        (no_type, {"region": "eu"}, "its annotation .* can't be evaluated: there is no 'eu' in its module"),
        (of_attribute, {"region": "eu"}, "that raises AttributeError: .*NoSuchType.*; write a type"),
        (listed, {"prices": [1]}, r"pydantic does not know its annotation list\['Money'\]"),
    ],
)
def test_a_value_whose_annotation_can_not_be_evaluated_is_refused(
    function: Callable[..., object], kwargs: dict[str, object], said: str
) -> None:
    (argument,) = kwargs
    with pytest.raises(
        JobDefinitionError, match=f"kwargs of job 'job': argument '{argument}' can't be checked: .*{said}"
    ):
        job(function, **kwargs)


def test_an_annotation_that_can_not_be_evaluated_does_no_harm_where_no_value_is_given() -> None:
    made = job(priced, region="eu")
    assert made.kwargs == {"region": "eu"}
    with pytest.raises(InvalidArgumentError, match=r"argument 'price' can't be checked: .*there is no 'Money'"):
        ManualRun(made, kwargs={"price": 1})


def doubled(value: int) -> int:
    return value * 2


def test_a_value_is_validated_once_wherever_it_comes_from() -> None:
    def work(count: Annotated[int, AfterValidator(doubled)] = 1) -> None: ...

    assert job(work, count="3").kwargs == {"count": 6}
    assert ManualRun(job(work), kwargs={"count": "3"}, texts=True).kwargs == {"count": 6}
    assert ManualRun(job(work), kwargs={"count": 3}).kwargs == {"count": 6}


def test_secrets_among_arguments_are_not_shown_where_a_job_is_printed() -> None:
    def login(password: str, options: dict[str, object], region: str) -> None: ...

    kwargs: dict[str, object] = {"password": "pencil", "options": {"api_key": "rubber", "size": 3}, "region": "eu"}
    job = CronJob(login, "* * * * *", "login", kwargs=kwargs)
    for shown in (repr(job), str(job), repr([job]), repr(ManualRun(job, kwargs=kwargs))):
        assert "pencil" not in shown
        assert "rubber" not in shown
        assert '"password": "***"' in shown
        assert '"size": 3' in shown
        assert "eu" in shown
