"""JSON into dataclasses, led by their type hints."""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ._api import Api
from .errors import AditError

T = TypeVar("T")


class Bound:
    """Something that came from a server and can ask it for more."""

    # No field: a field would be copied by `dataclasses.asdict`, which pandas calls too.
    _api: Api


@lru_cache
def members(kind: Any) -> dict[str, tuple[str, Any]]:
    """The members of a JSON object that a model is made of: the field that takes each, and its type."""
    hints = get_type_hints(kind)
    return {each.metadata.get("member", each.name): (each.name, hints[each.name]) for each in fields(kind)}


def decode(kind: type[T], value: Any, api: Api) -> T:
    """Makes a model of a JSON object. Members that the model does not know are left out: a newer server may send them."""
    hashable: Any = kind  # which mypy does not see of a type variable
    try:
        made = kind(**{name: _value(hint, value[member], api) for member, (name, hint) in members(hashable).items()})
    except (KeyError, TypeError, ValueError) as error:
        detail = f"{kind.__name__}: {error!r}; server and client are of different versions, or the URL is not that of a server"
        raise AditError("The server's answer cannot be read", detail) from error
    if isinstance(made, Bound):
        made._api = api
    return made


def _value(hint: Any, value: Any, api: Api) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        # Of several kinds, which are those of a query, none has anything to decode.
        kinds = [kind for kind in arguments if kind is not types.NoneType]
        return value if value is None or len(kinds) > 1 else _value(kinds[0], value, api)
    if origin is tuple:
        return tuple(value)
    if origin is list:
        return [_value(arguments[0], entry, api) for entry in value]
    if origin is dict:
        return {name: _value(arguments[1], entry, api) for name, entry in value.items()}
    if is_dataclass(hint) and isinstance(hint, type):
        return decode(hint, value, api)
    if hint is datetime:
        # Python 3.10 does not read the Z.
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    if hint is date:
        return date.fromisoformat(value)
    if hint in (bool, int, float, str):
        return _plain(hint, value)
    return value


def _plain(hint: Any, value: Any) -> Any:
    """A value of a plain type, if it is one: a server's word is not taken for it."""
    kind = type(value)
    if kind is hint or (hint is float and kind is int):
        return value
    raise TypeError(f"{value!r:.100} is no {hint.__name__}")
