"""Holds the client to openapi.yaml: a contract that changed does not pass unnoticed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from datetime import date, datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import yaml

from adit_tdm import Asset, Client, Docset, Document, assets, docsets, documents, errors, models, packages, watches
from adit_tdm._decode import members
from adit_tdm._operations import OPERATIONS


class Yaml12(yaml.SafeLoader):
    """Reads YAML 1.2, as OpenAPI has it: in 1.1 the language `no` is false."""


BOOL = "tag:yaml.org,2002:bool"
Yaml12.yaml_implicit_resolvers = {
    first: [resolver for resolver in resolvers if resolver[0] != BOOL or first in "tf"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
ROOT = Path(__file__).parents[3]
CONTRACT: dict[str, Any] = yaml.load((ROOT / "openapi.yaml").read_text(), Yaml12)
SCHEMAS: dict[str, dict[str, Any]] = CONTRACT["components"]["schemas"]
if snippets := SCHEMAS.get("BTreeMap", {}).get("additionalProperties"):
    # The contract has no name for a snippet yet, but one of the server's own for the map of them.
    SCHEMAS["Snippet"], snippets["items"] = snippets["items"], {"$ref": "#/components/schemas/Snippet"}
MODULES = (models, documents, docsets, packages, assets, watches)

# Who else calls operations: packagers, and those who run the service.
OTHERS = {"packager", "service"}
# What miners have no need of here.
LEFT_OUT = {
    "getShared": "shows what `Client.follow_share` opens, which opens nothing to others and costs nothing",
    "dumpDocset": "does for shell scripts what `Docset.package` and `Package.download` do",
    "downloadPackage": "gives one of the assets, which `Package.download` finds in their list with its name",
    "followLink": "is for programs that send no key; `Asset.link` is such a link",
    "followPackage": "tells what `Package.wait` asks for; proxies between notebooks and servers like to hold streams back",
}
# Which method takes what an operation can be told. Ids are known to the objects.
METHODS: dict[str, Callable[..., Any]] = {
    "getMe": Client.me,
    "search": Client.search,
    "createDocset": Client.create_docset,
    "renameDocset": Docset.rename,
    "diffDocset": Docset.diff,
    "shareDocset": Docset.share,
    "followShare": Client.follow_share,
    "createWatch": Client.create_watch,
    "estimatePackage": Docset.estimate,
    "createPackage": Docset.package,
    "getDocumentFile": Document.content,
    "downloadAsset": Asset.download,
}
# What the client sees to itself.
OWN = {"cursor", "limit", "id", "range", "if-range", "if-none-match"}
# What a method has besides, or under another name.
BESIDES = {
    "search": {"page_size"},
    "createDocset": {"union", "intersection", "difference"},
    "followShare": {"link"},
    "downloadAsset": {"path", "progress", "overwrite"},
    "estimatePackage": {"formats"},
}
ALSO = {
    "createDocset": {"from", "sample_size", "sample_seed"},
    "followShare": {"token"},
    "estimatePackage": {"fmts", "fmt"},
    "downloadAsset": {"name"},
}
# Models of what is only asked, never answered.
ASKED = {"Highlighting"}
# Members that an answer always has, though their schema, which describes files of operators too, does not require them.
ALWAYS = {"Tdm": {"policy"}}

# Problems that no call of this client can have, or that it sees to itself.
OTHER_PROBLEMS = {"method-not-allowed", "not-acceptable", "unsupported-media-type", "range-not-satisfiable"}


def operations() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    for path, item in CONTRACT["paths"].items():
        for method, operation in item.items():
            yield operation["operationId"], method.upper(), path, operation


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    return SCHEMAS[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def properties(schema: dict[str, Any]) -> dict[str, Any]:
    """The members of an object, also of one that is put together of several."""
    schema = resolved(schema)
    found = dict(schema.get("properties", {}))
    for part in schema.get("allOf", ()):
        found |= properties(part)
    return found


def required(schema: dict[str, Any]) -> set[str]:
    schema = resolved(schema)
    return {*schema.get("required", ())}.union(*(required(part) for part in schema.get("allOf", ())))


def is_object(schema: dict[str, Any]) -> bool:
    return "allOf" in schema or (schema.get("type") == "object" and "properties" in schema)


def one_of(kinds: list[Any]) -> Any:
    """What stands for one of several kinds: themselves, each once and null last; or the only one."""
    different: list[Any] = []
    for kind in kinds:
        for each in kind if isinstance(kind, tuple) else (kind,):
            if each not in different:
                different.append(each)
    different.sort(key=lambda kind: kind is None)
    return tuple(different) if len(different) > 1 else different[0]


def hint_of(schema: dict[str, Any]) -> Any:
    """What stands for a schema in a model: a type, or the name of one, with `None` beside it where null is possible."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return name if is_object(SCHEMAS[name]) else hint_of(SCHEMAS[name])
    if "oneOf" in schema:
        return one_of([None if each.get("type") == "null" else hint_of(each) for each in schema["oneOf"]])
    kind = schema["type"]
    if isinstance(kind, list):
        (inner,) = (each for each in kind if each != "null")
        return one_of([hint_of({**schema, "type": inner}), None])
    if "enum" in schema:
        return frozenset(schema["enum"])
    if kind == "array":
        return [hint_of(schema["items"])]
    if kind == "object":
        (inner,) = schema.get("properties", {}).values() or (schema["additionalProperties"],)
        return {str: hint_of(inner) if inner else Any}
    formats: dict[str | None, type] = {"date-time": datetime, "date": date}
    simple: dict[str, type] = {"integer": int, "number": float, "boolean": bool, "string": str}
    return formats.get(schema.get("format"), simple[kind])


def shape_of(hint: Any) -> Any:
    """The same of a type hint."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return one_of([None if each is NoneType else shape_of(each) for each in arguments])
    if origin is Literal:
        return frozenset(arguments)
    if origin is list:
        return [shape_of(arguments[0])]
    if origin is tuple:
        return [shape_of(each) for each in arguments[:1]]
    if origin is dict:
        return {str: shape_of(arguments[1])}
    return NAMES.get(hint.__name__, hint.__name__) if isinstance(hint, type) and is_dataclass(hint) else hint


# Schemas whose model has another name.
NAMES = {"Hit": "HitView"}
MODELS: dict[str, Any] = {NAMES.get(name, name): kind for module in MODULES for name, kind in vars(module).items() if is_dataclass(kind)}


def test_every_operation_of_miners_is_one_that_the_client_calls_and_the_other_way_round() -> None:
    wanted = {name: (method, path) for name, method, path, operation in operations() if not OTHERS & {*operation["tags"]}}
    assert wanted.keys() >= LEFT_OUT.keys(), "what is left out is not in the contract any more"
    assert {name: call for name, call in wanted.items() if name not in LEFT_OUT} == OPERATIONS


def told(operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What an operation can be told: parameters, and members of the body."""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return {each["name"]: each["schema"] for each in operation.get("parameters", ())} | properties(body)


def words(shape: Any) -> Any:
    """The words that may be chosen from, if that is what a shape says."""
    shape = shape[0] if isinstance(shape, tuple) else shape
    return shape if isinstance(shape, frozenset) else None


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name in METHODS])
def test_what_an_operation_can_be_told_is_what_its_method_takes(name: str) -> None:
    (operation,) = (operation for found, *_, operation in operations() if found == name)
    wanted = told(operation)
    taken = inspect.signature(METHODS[name]).parameters.keys() - {"self"}
    assert taken - BESIDES.get(name, set()) == wanted.keys() - OWN - ALSO.get(name, set())
    hints = get_type_hints(METHODS[name])
    for each in taken & wanted.keys():
        assert words(shape_of(hints[each])) == words(hint_of(wanted[each])), each


def test_no_other_operation_can_be_told_anything_but_where_it_is() -> None:
    for name, _, path, operation in operations():
        if name in OPERATIONS.keys() - METHODS.keys():
            assert {each for each in told(operation).keys() - OWN if f"{{{each}}}" not in path} == set(), name


def answers(schema: dict[str, Any]) -> Iterator[str]:
    """The names of the objects in an answer."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if is_object(SCHEMAS[name]):
            yield name
        schema = SCHEMAS[name]
    for part in (*schema.get("allOf", ()), *schema.get("oneOf", ()), *properties(schema).values()):
        yield from answers(part)
    for part in (schema.get("items"), schema.get("additionalProperties")):
        if part:
            yield from answers(part)


def test_every_answer_has_a_model_with_the_same_members() -> None:
    seen = set()
    for name, *_, operation in operations():
        if name in OPERATIONS:
            for status, response in operation["responses"].items():
                if status < "300":
                    for media in response.get("content", {}).values():
                        seen |= {*answers(media.get("schema", {}))}
    assert seen == MODELS.keys() - ASKED
    for name, model in MODELS.items():
        expected = {member: hint_of(schema) for member, schema in properties(SCHEMAS[name]).items()}
        assert {member: shape_of(hint) for member, (_, hint) in members(model).items()} == expected, name
        always = required(SCHEMAS[name]) | ALWAYS.get(name, set())
        assert name in ASKED or always == expected.keys(), f"{name}: a member of an answer is always there"


def test_every_kind_of_problem_in_the_documentation_has_its_exception() -> None:
    rows = re.findall(r"^\| (`.*?) \| [45]", (ROOT / "docs" / "API.md").read_text(), re.MULTILINE)
    documented = {kind for row in rows for kind in re.findall(r"`([a-z-]+)`", row)}
    kinds = {kind for found in errors.Problem.__subclasses__() for kind in found.kinds}
    assert documented == kinds | OTHER_PROBLEMS
