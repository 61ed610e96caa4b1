"""What schemathesis must know of Adit besides the contract: which refusals no schema can foretell, how to delete without
deleting what other requests need, and who must be refused. Counts the answers, for report.py.

The environment says what a run is about: ADIT_CONTRACT_KEY (empty: none), ADIT_CONTRACT_REFUSED (set: the key is no valid one),
ADIT_CONTRACT_CALLS (the file to write the counts to).
"""

import atexit
import functools
import itertools
import json
import os
import threading
from collections import Counter, defaultdict

import requests
import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.openapi.checks import RejectedPositiveData

KEY = os.environ["ADIT_CONTRACT_KEY"]
REFUSED = "ADIT_CONTRACT_REFUSED" in os.environ
# Those of prepare.py, which stay for the whole run.
KEPT = range(1, 4)
NDJSON = "application/x-ndjson"

# A request of the right shape is refused so when what it names is not there (any more): that is not for a schema to say.
NAMES_NOTHING = {
    "cursor-gone",
    "empty-docset",
    "invalid-cursor",
    "invalid-query",
    "invalid-recipe",
    "invalid-webhook",
    "not-acceptable",
    "package-erased",
    "range-not-satisfiable",
    "too-many-watches",
    "limit-reached",
    "unknown-field",
    "unknown-format",
    "unknown-refs",
}

answers = defaultdict(Counter)
lock = threading.Lock()


def kind(response):
    """The kind of problem that an answer is; None if it is none."""
    if response.headers.get("content-type") != ["application/problem+json"]:
        return None
    return response.json()["type"].removeprefix("urn:adit:problem:")


@schemathesis.hook
def filter_failure(context, failure, case, response):
    return not (isinstance(failure, RejectedPositiveData) and kind(response) in NAMES_NOTHING)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Asks for each of an operation's media types in turn, and has something made for it deleted in the place of what is kept."""
    case.headers.setdefault("Accept", next(accepted(case.operation)))
    name = case.operation.definition.raw["operationId"]
    if name == "followLink" and not REFUSED and (case.path_parameters or {}).get("id") in KEPT and next(turns[name]):
        lead_somewhere(case)
    if name == "createDocset":
        with_its_query_string(case)
    if name in ("getShared", "followShare", "revokeShare") and not REFUSED and next(turns[name]):
        share_something(case)
    if case.method.upper() != "DELETE" or REFUSED or (case.path_parameters or {}).get("id") not in KEPT:
        return
    base = case.operation.base_url.rstrip("/")
    if case.operation.path.startswith("/api/watches/"):
        case.path_parameters["id"] = spare_watch(base)
        return
    made = post(f"{base}/api/docsets", {"collection": "docs", "query": "*"})
    if case.operation.path.startswith("/api/packages/"):
        made = post(f"{made['url']}/packages", {"reuse": False})
    case.path_parameters["id"] = made["id"]


# Every second request of an operation is made to succeed.
turns = defaultdict(lambda: itertools.cycle([True, False]))


def spare_watch(base):
    """A watch that was made meanwhile, else a new one: a key has 100 at most."""
    newest = requests.get(f"{base}/api/watches?limit=1", headers={"X-Api-Key": KEY}, timeout=30).json()["watches"]
    if newest and newest[0]["id"] not in KEPT:
        return newest[0]["id"]
    return post(f"{base}/api/collections/docs/watch", {"query": "*"})["id"]


def lead_somewhere(case):
    """Puts a real link in the place of one that is only well formed: no dictionary can have its signature."""
    url = f"{case.operation.base_url.rstrip('/')}/api/packages/1/assets"
    response = requests.get(url, headers={"X-Api-Key": KEY}, timeout=30)
    if response.ok:
        start, _, package, name = response.json()["assets"][0]["link"].rsplit("/", 3)
        case.path_parameters.update(grant=start.rsplit("/", 1)[-1], id=int(package), name=name)


def with_its_query_string(case):
    """The query string is for NDJSON, which needs the collection in it: no schema can say so."""
    if case.meta and case.meta.is_negative_at(ParameterLocation.QUERY):
        return
    query = {"collection": "docs", **(case.query or {})} if case.media_type == NDJSON else {}
    if ("sample_size" in query) != ("sample_seed" in query):
        query = {"collection": query["collection"]}
    case.query = query


def share_something(case):
    """Puts a link that was made for it in the place of one that is not there."""
    docset = post(f"{case.operation.base_url.rstrip('/')}/api/docsets", {"collection": "docs", "query": "*"})
    share = post(f"{docset['url']}/share", {})
    if "token" in case.path_parameters:
        case.path_parameters["token"] = share["link"].rsplit("/", 1)[-1]
    else:
        case.path_parameters.update(id=docset["id"], share=share["id"])


@schemathesis.serializer(NDJSON)
def one_line(ctx, value):
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@functools.cache
def accepted(operation):
    """The media types of an operation's answers, over and over; the first time any will do."""
    responses = operation.definition.raw["responses"]
    return itertools.cycle(["*/*", *responses.get("200", {}).get("content", {})])


def post(url, body):
    response = requests.post(url, json=body, headers={"X-Api-Key": KEY}, timeout=30)
    response.raise_for_status()
    return response.json()


@schemathesis.hook
def after_call(context, case, response):
    # Probes use other methods than the operation's.
    if response.request.method == case.operation.method.upper():
        with lock:
            answers[case.operation.label][response.status_code] += 1


@schemathesis.check
def without_a_valid_key_nothing_is_done(ctx, response, case):
    """Whatever else is wrong with a request: without a key it is answered 401 wherever a key is needed, and with a wrong one everywhere."""
    security = case.operation.definition.raw.get("security")
    secured = (security and {} not in security) or (KEY and case.operation.path.startswith("/api/"))
    if not REFUSED or not secured or response.request.method != case.operation.method.upper():
        return
    if response.status_code == 404 and response.json()["detail"].startswith("nothing is at"):
        return  # an empty path parameter makes another path
    assert response.status_code == 401, f"answered {response.status_code} without a valid key"


@atexit.register
def write_counts():
    with open(os.environ["ADIT_CONTRACT_CALLS"], "w") as file:
        json.dump(answers, file)
