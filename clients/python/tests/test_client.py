"""The main job and what stands beside it, on a real server."""

from __future__ import annotations

import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas
import pytest

import adit_tdm
from adit_tdm import (
    AditError,
    Client,
    Docset,
    Highlighting,
    InvalidRequest,
    NotFound,
    PackageFailed,
    QuotaSpent,
    Unauthorized,
    Unreachable,
    WaitTimeout,
)
from adit_tdm.documents import DEPTH, Search, SearchResponse
from adit_tdm.models import PackageCost

from .servers import DOCUMENTS, Server, scan, text


def test_collections_are_shown(client: Client) -> None:
    (collection,) = client.collections()
    assert collection == client.collection("my-corpus")
    assert (collection.name, collection.documents) == ("Tunnels", DOCUMENTS)
    assert {total.format: total.documents for total in collection.formats} == {"meta": DOCUMENTS, "pdf": DOCUMENTS - 1, "txt": DOCUMENTS}
    assert "title" in client.schema("my-corpus")["properties"]


@pytest.mark.parametrize("page_size", [10, 25, 100])
def test_a_search_shows_every_hit_once_whatever_the_size_of_its_pages(client: Client, page_size: int) -> None:
    found = client.search("my-corpus", "*", sort="ref", facets=["subject"], page_size=page_size)
    assert (found.hits, len(found)) == (DOCUMENTS, DOCUMENTS)
    assert [hit.ref for hit in found] == [f"tunnel.{number:03}" for number in range(DOCUMENTS)]
    assert [hit.id for hit in found] == [hit.id for hit in found], "it can be gone through again"
    assert {count.value: count.count for count in found.facets["subject"]} == {"mining": 75, "rock": 50, "coal": 25}


def test_hits_are_ranked_and_counted(client: Client) -> None:
    found = client.search("my-corpus", "title:tunnel AND subject:coal")
    scores = [hit.score or 0 for hit in found]
    assert found.hits == len(scores) == 25
    assert all(above >= below > 0 for above, below in pairwise(scores))
    assert client.search("my-corpus", "nowhere", page_size=0).hits == 0


def test_hits_show_where_the_words_stand(client: Client) -> None:
    assert {hit.snippets is None for hit in client.search("my-corpus", "tunnel", page_size=10)} == {True}
    query = {"match": {"title": "tunnel"}}
    (hit,) = client.search("my-corpus", 'title:"tunnel 74"', highlight=True)
    assert hit.snippets is not None
    assert [piece.marked("[", "]") for piece in hit.snippets["title"]] == ["Mining [tunnel] [74]"]
    piece = hit.snippets["title"][0]
    assert [piece.text[start:end] for start, end in piece.marks] == ["tunnel", "74"]
    for hit in client.search("my-corpus", query, highlight=Highlighting(["title"], size=1), page_size=20):
        assert {name: len(pieces) for name, pieces in (hit.snippets or {}).items()} == {"title": 1}
    with pytest.raises(InvalidRequest, match="size"):
        client.search("my-corpus", query, highlight=Highlighting(size=11))
    with pytest.raises(InvalidRequest, match="analyzer"):
        client.search("my-corpus", {"match": {"title": {"query": "tunnel", "analyzer": "x"}}})


def test_a_search_that_cannot_be_paged_to_its_end_says_so(client: Client) -> None:
    (hit,) = client.search("my-corpus", 'title:"tunnel 74"')

    def ask(cursor: str | None) -> SearchResponse:
        return SearchResponse([hit] * (DEPTH // 2), {}, hits=DEPTH + 1, corpus_version=1, next=None if cursor else "more")

    with pytest.raises(AditError, match="make a docset"):
        list(Search(ask))


def test_facets_count_decades(client: Client) -> None:
    facets = client.search("my-corpus", "*", facets=["decade"], page_size=0).facets
    assert {count.value: count.count for count in facets["decade"]} == {"1990s": 30, "2000s": 25, "2010s": 20}


@pytest.mark.parametrize("number", range(6))
def test_a_document_comes_as_it_was_imported(client: Client, number: int, tmp_path: Path) -> None:
    (hit,) = client.search("my-corpus", f'title:"Tunnel {number}"')
    document = client.document(hit.id)
    assert (document.ref, document.version, document.current) == (f"tunnel.{number:03}", 1, True)
    assert document.metadata["subject"][0] == "mining"
    assert document.text() == text(number).decode("utf-8", errors="replace")
    assert document.content("txt") == text(number)
    assert document.download("txt", tmp_path).read_bytes() == text(number)
    if number == 1:
        with pytest.raises(AditError, match="there are: meta, txt"):
            document.content("pdf")
    else:
        assert document.content("pdf") == scan(number)
        assert document.download("pdf", tmp_path / "new" / "a.pdf").read_bytes() == scan(number)


def test_docsets_of_a_query_and_of_refs_are_made_listed_renamed_and_deleted(client: Client) -> None:
    by_query = client.create_docset("my-corpus", "subject:coal", name="coal")
    by_refs = client.create_docset("my-corpus", refs=["tunnel.001", "tunnel.000"])
    assert [(made.size, len(made), made.query, made.name) for made in (by_query, by_refs)] == [
        (25, 25, "subject:coal", "coal"),
        (2, 2, None, None),
    ]
    assert [docset.url for docset in client.docsets()] == [by_refs.url, by_query.url]
    assert [member.ref for member in by_refs.members()] == ["tunnel.000", "tunnel.001"]
    assert [entry.metadata["title"] for entry in by_refs.catalog()] == ["Mining tunnel 0", "Mining tunnel 1"]
    by_refs.rename("two")
    assert client.docset(by_refs.id) == by_refs
    assert (by_refs.name, by_refs.withdrawn) == ("two", 0)
    assert by_refs.rename(None).name is None
    by_refs.delete()
    with pytest.raises(NotFound):
        client.docset(by_refs.id)


def test_lists_go_on_over_pages(client: Client, docset: Docset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adit_tdm._pages, "LIMIT", 20)
    assert [member.ref for member in docset.members()] == [entry.ref for entry in docset.catalog()]
    assert len(list(docset.members())) == DOCUMENTS
    made = [client.create_docset("my-corpus", refs=["tunnel.000"]).id for _ in range(21)]
    assert [each.id for each in client.docsets()] == [*reversed(made), docset.id]


def test_a_package_weighs_what_was_estimated_and_holds_what_was_imported(docset: Docset, tmp_path: Path) -> None:
    estimate = docset.estimate(["txt", "pdf"], layout="flat")
    package = docset.package(["txt", "pdf"], layout="flat")
    archive = package.download(tmp_path / "tunnels.zip")
    assert (package.status, package.terminal, package.content, package.percent) == ("successful", True, "available", 100)
    assert (package.documents.included, package.documents.omitted) == (estimate.included, 0) == (DOCUMENTS, 0)
    assert archive.stat().st_size == package.size == estimate.bytes
    with zipfile.ZipFile(archive) as opened:
        contents = sorted(opened.read(name) for name in opened.namelist())
    scans = [scan(number) for number in range(DOCUMENTS) if number != 1]
    assert contents == sorted([text(number) for number in range(DOCUMENTS)] + scans)


def test_the_same_wish_gives_the_same_package_and_no_second_download(client: Client, docset: Docset, tmp_path: Path) -> None:
    package = docset.package("meta", layout="bag")
    package.wait()
    again = docset.package(["meta"], layout="bag")
    assert (package.cost, again.cost) == (DOCUMENTS, 0)
    assert again.id == package.id == client.package(package.id).id
    archive = package.download(tmp_path / "bag.zip")
    before = archive.stat().st_mtime_ns
    assert package.download(archive).stat().st_mtime_ns == before
    assert docset.package(["meta"], layout="bag", reuse=False).id != package.id


def test_a_package_that_was_deleted_says_so_and_can_be_had_again(docset: Docset, tmp_path: Path) -> None:
    package = docset.package("txt").wait()
    assert package.delete().content == "erased"
    with pytest.raises(adit_tdm.PackageErased) as erased:
        package.download(tmp_path / "gone.zip")
    assert (erased.value.status, erased.value.type) == (410, "urn:adit:problem:package-erased")
    assert erased.value.members["rebuild"]["body"]["formats"] == ["txt"]
    assert list(tmp_path.iterdir()) == []
    again = docset.package("txt").wait()
    assert (again.id != package.id, again.sha256) == (True, package.sha256)


def test_waiting_ends_when_the_time_is_over_or_the_package_is_dismissed(docset: Docset) -> None:
    package = docset.package(["txt", "pdf", "meta"], reuse=False)
    with pytest.raises(WaitTimeout, match="wait again"):
        package.wait(timeout=0)
    if package.delete().status == "dismissed":
        with pytest.raises(PackageFailed, match="dismissed"):
            package.wait()


def test_progress_is_shown_where_it_is_wanted(docset: Docset, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    docset.package("txt", layout="bag").download(tmp_path / "quiet.zip")
    assert capsys.readouterr().err == ""
    docset.package("txt", layout="bag").download(tmp_path / "told.zip", progress=True)
    assert "told.zip: 100%" in capsys.readouterr().err


def test_problems_are_exceptions_that_tell_how_to_go_on(server: Server, client: Client, docset: Docset) -> None:
    with pytest.raises(InvalidRequest) as unknown:
        docset.package(["doc"])
    assert (unknown.value.status, unknown.value.type) == (400, "urn:adit:problem:unknown-format")
    assert unknown.value.members["formats"] == ["meta", "pdf", "txt"]
    assert unknown.value.request_id
    assert str(unknown.value) == f"{unknown.value.title} (400): {unknown.value.detail}"
    with pytest.raises(InvalidRequest, match="query"):
        client.search("my-corpus", "title:(")
    with pytest.raises(NotFound, match="no such collection"):
        client.collection("../docsets")
    with pytest.raises(InvalidRequest):
        client.create_docset("my-corpus", "nowhere")
    with server.client(key="wrong") as stranger, pytest.raises(Unauthorized, match="ADIT_API_KEY"):
        stranger.me()
    with server.client(url=f"{server.url}/elsewhere") as lost, pytest.raises(NotFound):
        lost.me()


def test_a_spent_quota_is_told_at_once(server: Server) -> None:
    with server.client(key=server.key("--quota", "80"), patience=0) as client:
        docset = client.create_docset("my-corpus", "*")
        estimate, package = docset.estimate("txt"), docset.package("txt")
        assert (estimate.cost, estimate.quota_after) == (75, 5)
        assert (package.cost, package.quota_after) == (75, 5)
        package.wait()
        me = client.me(docset=docset.id)
        assert (me.quota, me.remaining, me.usage[0].documents) == (80, 5, 75)
        assert (me.allowances.documents.own, me.package) == (True, PackageCost(docset.id, 75, -70))
        with pytest.raises(QuotaSpent) as spent:
            docset.package("meta")
        assert spent.value.retry_after is not None
        assert "documents" in str(spent.value.members["violated-policies"])


def test_a_server_that_is_not_there_is_told(server: Server) -> None:
    with Client("http://127.0.0.1:9", patience=1) as client, pytest.raises(Unreachable, match="cannot be reached"):
        client.collections()
    with pytest.raises(ValueError, match="http://"):
        Client("127.0.0.1:8080")
    with server.client() as client:
        assert repr(client) == f"<Client of {server.url}>"


def test_threads_share_a_client(client: Client) -> None:
    hits = list(client.search("my-corpus", "*", sort="ref"))
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda hit: hit.content("txt"), hits)) == [text(number) for number in range(DOCUMENTS)]


def test_settings_come_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADIT_PUBLIC_URL", server.url + "/")
    monkeypatch.setenv("ADIT_API_KEY", server.key())
    with Client() as client:
        assert client.me().role == "miner"


def test_answers_become_tables(client: Client) -> None:
    found: Any = client.search("my-corpus", "*")
    frame = pandas.DataFrame(found)
    assert len(frame) == DOCUMENTS
    assert json.loads(frame.metadata.to_json())["0"]["title"].startswith("Mining")
