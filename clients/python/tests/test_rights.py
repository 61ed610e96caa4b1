"""A corpus that changes, with documents that not everybody may have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from adit_tdm import (
    Client,
    Forbidden,
    InvalidRequest,
    NotFound,
    OriginGone,
    RightsMissing,
    Tdm,
    TooManyWatches,
    Unauthorized,
    Withdrawn,
)

from .servers import Server, serving

SLUG = "press"
POLICY = "https://example.org/policy"


def write(folder: Path, *lines: dict[str, object]) -> Path:
    """Writes the collection folder `press` with these metadata; each document's text is its title."""
    folder.mkdir(exist_ok=True)
    about = {"slug": SLUG, "name": "Press", "description": "", "language": "en", "tdm": {"reservation": 1, "policy": POLICY}}
    (folder / "collection.json").write_text(json.dumps(about))
    with (folder / "documents.jsonl").open("w") as file:
        for number, metadata in enumerate(lines):
            path = folder / f"{number}.txt"
            path.write_text(f"{metadata['title']}: the text.")
            entry = {"ref": f"paper.{number}", "metadata": metadata, "files": [{"format": "txt", "path": path.name}]}
            file.write(json.dumps(entry) + "\n")
    return folder


PAPERS: list[dict[str, object]] = [
    {"title": "Open mines"},
    {"title": "Restricted mines", "accessRights": "restricted"},
    {"title": "Metadata of mines", "accessRights": "metadata", "tdmReservation": 0},
    {"title": "A mine that will be withdrawn"},
]


@pytest.fixture
def press(tmp_path: Path) -> Iterator[Server]:
    """A server of its own, for tests that change what it has."""
    with serving(tmp_path / "server") as server:
        server.run("import", str(write(tmp_path / "press", *PAPERS)))
        yield server


def imported(server: Server, *lines: dict[str, object]) -> None:
    server.run("import", str(write(server.data.parent.parent / "press", *lines)))


def test_a_key_shows_what_it_may_do_and_until_when(press: Server) -> None:
    with press.client() as miner, press.client(key=press.key("--scope", "search", "--expires", "2099-01-01")) as reader:
        assert (miner.me().expires, "docsets:write" in miner.me().scopes, "usage" in miner.me().scopes) == (None, True, False)
        me = reader.me()
        assert (me.scopes, me.expires, me.last_used) == (["search"], datetime(2099, 1, 1, tzinfo=timezone.utc), None)
        assert reader.search(SLUG, "mining")
        with pytest.raises(Forbidden) as missing:
            reader.create_docset(SLUG, "*")
        assert missing.value.members["scopes"] == ["docsets:write"]
    with press.client(key="adit_unknown") as nobody, pytest.raises(Unauthorized):
        nobody.search(SLUG, "mining")


def test_files_are_given_to_whom_they_may_be_given(press: Server) -> None:
    with press.client() as miner, press.client(key=press.key("--entitlement", SLUG)) as entitled:
        collection = miner.collection(SLUG)
        assert (collection.language, collection.access, collection.entitlement) == ("en", "open", None)
        assert collection.tdm == Tdm(1, POLICY)
        assert (miner.me().entitlements, entitled.me().entitlements) == ([], [SLUG])
        opened, restricted, closed, _ = miner.search(SLUG, "mining", sort="ref")
        assert [(each.access, each.entitlement) for each in (opened, restricted, closed)] == [
            ("open", None),
            ("restricted", SLUG),
            ("metadata", None),
        ]
        assert (opened.tdm, closed.tdm) == (Tdm(1, POLICY), Tdm(0, None))
        assert opened.text() == "Open mines: the text."
        with pytest.raises(RightsMissing) as missing:
            restricted.text()
        assert (missing.value.status, missing.value.members["entitlement"]) == (403, SLUG)
        assert entitled.document(restricted.id).text() == "Restricted mines: the text."
        with pytest.raises(RightsMissing):
            entitled.document(closed.id).content("txt")
        for client, included in ((miner, 2), (entitled, 3)):
            docset = client.create_docset(SLUG, "*")
            estimate, package = docset.estimate("txt"), docset.package("txt").wait()
            assert (estimate.included, estimate.omitted.rights, estimate.omitted.format) == (included, 4 - included, 0)
            assert (package.documents.included, package.documents.rights, package.documents.withdrawn) == (included, 4 - included, 0)


def test_withdrawn_documents_are_marked_and_given_no_more(press: Server) -> None:
    with press.client() as client:
        docset = client.create_docset(SLUG, "*")
        package = docset.package("txt").wait()
        assert list(package.withdrawals()) == []
        press.run("withdraw", "paper.3", "--collection", SLUG, "--reason", "by order")
        (gone,) = package.withdrawals()
        assert (gone.ref, gone.withdrawn and gone.withdrawn.reason) == ("paper.3", "by order")
        assert client.docset(docset.id).withdrawn == 1
        assert [member.withdrawn is not None for member in docset.members()] == [False, False, False, True]
        document = client.document(gone.id)
        assert document.withdrawn == gone.withdrawn
        with pytest.raises(Withdrawn, match="by order"):
            document.text()
        assert docset.package("txt").wait().documents.withdrawn == 1
        fresh = docset.refresh()
        assert [(line.ref, line.change) for line in fresh.diff(docset)] == [("paper.3", "withdrawn")]


def test_docsets_follow_the_corpus(press: Server) -> None:
    with press.client() as client:
        docset = client.create_docset(SLUG, "title:mine")
        copy = client.create_docset(SLUG, union=[docset])
        imported(press, {"title": "Open mines, revised"}, *PAPERS[1:], {"title": "New mines"})
        fresh = docset.refresh()
        assert (fresh.id != docset.id, fresh.refresh().id) == (True, fresh.id)
        assert fresh.corpus_version > docset.corpus_version
        added, changed = fresh.diff(docset)
        assert (added.ref, added.change, added.was) == ("paper.4", "added", None)
        before = next(docset.members())
        assert (changed.ref, changed.change, changed.was) == ("paper.0", "changed", before.id)
        docset.delete()
        with pytest.raises(OriginGone):
            copy.refresh()


def test_watches_make_docsets_of_what_is_new(press: Server) -> None:
    with press.client() as client:
        made = client.create_watch(SLUG, {"match": {"title": "mine"}}, name="mines")
        other = client.create_watch(SLUG, "nowhere", webhook="https://1.1.1.1/hook")
        assert (made.secret, (other.secret or "")[:6], other.webhook) == (None, "whsec_", "https://1.1.1.1/hook")
        assert [watch.id for watch in client.watches()] == [other.id, made.id]
        assert client.watch(made.id).notices == []
        imported(press, *PAPERS, {"title": "New mines"})
        watch = client.watch(made.id)
        (notice,) = watch.notices
        assert (watch.name, watch.query, notice.documents, notice.state) == ("mines", {"match": {"title": "mine"}}, 1, "silent")
        found = notice.docset()
        assert [member.ref for member in found.members()] == ["paper.4"]
        assert found.origin.watch is not None
        assert (found.origin.watch.id, found.origin.watch.since) == (made.id, made.corpus_version)
        assert client.watch(other.id).notices == []
        for each in client.watches():
            each.delete()
        with pytest.raises(NotFound):
            client.watch(made.id)


def test_webhooks_must_be_public(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="public") as refused:
        client.create_watch("my-corpus", "*", webhook="http://127.0.0.1/hook")
    assert refused.value.type == "urn:adit:problem:invalid-webhook"


def test_a_key_has_so_many_watches(client: Client) -> None:
    for _ in range(100):
        client.create_watch("my-corpus", "nowhere")
    with pytest.raises(TooManyWatches):
        client.create_watch("my-corpus", "nowhere")
    assert len(list(client.watches())) == 100
