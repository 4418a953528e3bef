"""Arguments: what a job's function is called with besides its context and its dependencies."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from hashlib import blake2b
from inspect import Parameter
from typing import Any, get_origin

from fastapi_crons._util.hiding import HIDDEN, announces_secret, without_secrets
from fastapi_crons._util.text import brief, storable
from fastapi_crons.errors import InvalidArgumentError
from fastapi_crons.functions.parameters import Parameters, not_evaluated

#: The longest text (characters) of a job's arguments, as JSON.
MAX_CHARS = 10_000


def checked_arguments(parameters: Parameters, given: Mapping[str, object]) -> dict[str, object]:
    """The arguments, converted to what the annotations of their parameters say, as FastAPI converts a request's.

    Raises `InvalidArgumentError` for a name that the function does not take, for a value that its annotation does not allow,
    and for one that JSON can't hold.
    """
    return _checked(parameters, given, lambda adapter, value: adapter.validate_python(value))


def arguments_from_texts(parameters: Parameters, given: Mapping[str, object]) -> dict[str, object]:
    """As `checked_arguments`, of values that are all text: as it is where the annotation allows that, else read as JSON."""

    def convert(adapter: Any, value: object) -> object:
        try:
            return adapter.validate_python(value)
        except ValueError as error:
            try:
                return adapter.validate_json(value)
            except ValueError:
                raise error from None

    return _checked(parameters, given, convert)


def arguments_text(arguments: Mapping[str, object]) -> str:
    """Arguments as JSON text, to be stored and shown: without secrets, such as the value of an argument `api_key`."""
    from pydantic_core import to_jsonable_python

    return storable(json.dumps(_without_secrets(to_jsonable_python(dict(arguments))), ensure_ascii=False))


def arguments_digest(arguments: Mapping[str, object]) -> str:
    """Stands for arguments where it is recorded which ones a job has: in each process the same for the same ones.

    A digest, because a store is read by more people than may know the secrets among the arguments. A short one: 32 bits tell an
    edit, and do not confirm the guess of a secret, as a longer one would, since that of many other values is the same.
    """
    text = _ordered(dict(arguments))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def _ordered(value: object) -> str:
    """A value as JSON, with its secrets, and with keys and sets in an order that does not differ from process to process."""
    from pydantic import SecretBytes, SecretStr, TypeAdapter
    from pydantic_core import to_jsonable_python

    plain = TypeAdapter(object).dump_python(value)  # of models and dataclasses their fields
    if isinstance(plain, dict):
        keys = to_jsonable_python(dict.fromkeys(plain))
        pairs = zip(keys, plain.values(), strict=True)
        return f"{{{','.join(sorted(f'{json.dumps(key)}:{_ordered(item)}' for key, item in pairs))}}}"
    if isinstance(plain, (set, frozenset)):
        return f"[{','.join(sorted(map(_ordered, plain)))}]"
    if isinstance(plain, (list, tuple)):
        return f"[{','.join(map(_ordered, plain))}]"
    secret = isinstance(plain, (SecretStr, SecretBytes))
    return json.dumps(to_jsonable_python(plain.get_secret_value() if secret else plain))


def _checked(
    parameters: Parameters, given: Mapping[str, object], convert: Callable[[Any, object], object]
) -> dict[str, object]:
    from pydantic import PydanticUserError, ValidationError

    checked: dict[str, object] = {}
    for name, value in given.items():
        parameter = _parameter(parameters, name)
        adapter = _adapter(name, parameter)
        try:
            checked[name] = value if adapter is None else convert(adapter, value)
        except PydanticUserError as error:  # a name within it is text: list["Region"]
            raise _unknown(name, parameter, error) from None
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            place = ".".join(map(str, (name, *fault["loc"])))
            shown = HIDDEN if announces_secret(place) else brief(_without_secrets(fault["input"]))
            raise InvalidArgumentError(f"argument {brief(place)} can't be {shown}: {fault['msg']}") from None
    _check_text(checked)
    return checked


def _parameter(parameters: Parameters, name: object) -> Parameter:
    """The parameter that takes an argument, which may be `**kwargs`."""
    if isinstance(name, str):
        parameter = parameters.arguments.get(name)
        if parameter is not None:
            return parameter
        if name in parameters.context or name in parameters.dependencies:
            raise InvalidArgumentError(f"argument {brief(name)} can't be given: it is filled in by the scheduler")
        if parameters.any_arguments is not None and name.isidentifier():
            return parameters.any_arguments
        close = get_close_matches(name, parameters.arguments, 1)
        if close:
            raise InvalidArgumentError(f"there is no parameter named {brief(name)}; did you mean {close[0]!r}?")
    names = ", ".join(map(repr, parameters.arguments)) or "none"
    raise InvalidArgumentError(f"there is no parameter named {brief(name)}; the function takes {names}")


def _adapter(name: str, parameter: Parameter) -> Any:
    """What checks a value; None for a parameter whose annotation says nothing."""
    from pydantic import TypeAdapter

    if parameter.annotation is Parameter.empty or str(get_origin(parameter.annotation)).endswith(".Unpack"):
        return None  # nothing, or in `**kwargs: Unpack[…]` nothing that holds for each value
    fault = not_evaluated(parameter)
    if fault is not None:
        raise InvalidArgumentError(f"argument {name!r} can't be checked: {fault}")
    try:
        return TypeAdapter(parameter.annotation)
    except Exception as error:
        raise _unknown(name, parameter, error) from None


def _unknown(name: str, parameter: Parameter, error: Exception) -> InvalidArgumentError:
    said = str(error).partition("\n")[0]
    return InvalidArgumentError(
        f"argument {name!r} can't be checked: pydantic does not know its annotation {brief(parameter.annotation)} "
        f"({type(error).__name__}: {said})"
    )


def _check_text(arguments: Mapping[str, object]) -> None:
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    for name, value in arguments.items():
        try:
            length = len(
                json.dumps(to_jsonable_python(value), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
            )
        except (PydanticSerializationError, ValueError) as error:
            raise InvalidArgumentError(
                f"argument {name!r} must be what JSON can hold, since it is stored and shown: {error}"
            ) from None
        if length > MAX_CHARS:
            raise InvalidArgumentError(
                f"argument {name!r} is too long: {length} bytes as JSON, and at most {MAX_CHARS} are stored; pass a reference"
            )


def _without_secrets(value: object, name: str = "") -> object:
    if isinstance(value, dict):
        return {key: _without_secrets(item, key) for key, item in value.items()}
    if announces_secret(name) and value is not None:
        return HIDDEN
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return without_secrets(value) if isinstance(value, str) else value
