"""What docsets are made of, and how they are compared, made anew and shared."""

from __future__ import annotations

import pandas
import pytest

from adit_tdm import Client, Docset, Forbidden, InvalidRequest, NotFound, Sample

from .servers import DOCUMENTS, Server

COAL = {"term": {"subject": "coal"}}


def refs(docset: Docset) -> list[str]:
    return [member.ref for member in docset.members()]


def test_a_docset_is_made_of_a_query_in_either_language(client: Client) -> None:
    by_object, by_text = client.create_docset("my-corpus", COAL), client.create_docset("my-corpus", "subject:coal")
    assert (by_object.fingerprint, by_object.size) == (by_text.fingerprint, 25)
    assert (by_object.query, by_object.origin.query, by_text.origin.query) == (COAL, COAL, "subject:coal")
    assert client.search("my-corpus", COAL).hits == 25


def test_many_refs_make_one_docset(client: Client) -> None:
    # More than a body of JSON may have.
    many = [f"tunnel.{number:03}" for number in range(DOCUMENTS)] * 10_000
    docset = client.create_docset("my-corpus", refs=many, name="many, & of all")
    assert (docset.size, docset.name, docset.query) == (DOCUMENTS, "many, & of all", None)
    assert docset.origin.refs == DOCUMENTS
    assert refs(docset) == many[:DOCUMENTS]
    with pytest.raises(InvalidRequest) as unknown:
        client.create_docset("my-corpus", refs=["tunnel.000", "mine \u2028 shaft"])
    assert unknown.value.members["unknown"] == ["mine \u2028 shaft"]


def test_docsets_are_combined(client: Client, docset: Docset) -> None:
    coal, early = client.create_docset("my-corpus", "subject:coal"), client.create_docset("my-corpus", "issued:[* TO 1994]")
    both = client.create_docset("my-corpus", intersection=[coal, early])
    either = client.create_docset("my-corpus", union=[coal.id, early])
    rest = client.create_docset("my-corpus", difference=[docset, coal, early.id])
    assert {*refs(both)} == {*refs(coal)} & {*refs(early)} != set()
    assert {*refs(either)} == {*refs(coal)} | {*refs(early)}
    assert {*refs(rest)} == {*refs(docset)} - {*refs(either)} != set()
    assert rest.origin.combination == {"difference": [docset.id, coal.id, early.id]}


def test_samples_of_one_seed_lie_in_each_other(client: Client, docset: Docset) -> None:
    ten = client.create_docset("my-corpus", "*", sample=Sample(10, seed=7))
    twenty = client.create_docset("my-corpus", refs=refs(docset), sample=Sample(20, seed=7))
    five = client.create_docset("my-corpus", union=[twenty], sample=Sample(5, seed=7))
    assert (ten.size, ten.origin.sample) == (10, Sample(10, 7))
    assert {*refs(five)} < {*refs(ten)} < {*refs(twenty)}


def test_a_docset_is_made_of_one_thing(client: Client, docset: Docset) -> None:
    with pytest.raises(InvalidRequest):
        client.create_docset("my-corpus")
    with pytest.raises(InvalidRequest):
        client.create_docset("my-corpus", "*", refs=["tunnel.000"])
    with pytest.raises(InvalidRequest):
        client.create_docset("my-corpus", union=[docset], intersection=[docset])


def test_a_difference_is_counted_and_told(client: Client, docset: Docset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adit_tdm._pages.LIMIT", 20)
    coal = client.create_docset("my-corpus", "subject:coal")
    grown, shrunk = docset.diff(coal), coal.diff(docset.id)
    assert (grown.counts.added, grown.counts.changed, grown.counts.withdrawn) == (50, 0, 0)
    assert [(line.change, line.was) for line in grown] == [("added", None)] * 50
    assert [line.ref for line in shrunk] == [line.ref for line in grown]
    assert {line.change for line in shrunk} == {"withdrawn"}
    assert len(pandas.DataFrame(list(grown))) == 50


def test_a_docset_is_made_anew_only_where_something_is_new(docset: Docset) -> None:
    assert docset.refresh().id == docset.id


def test_a_link_opens_a_docset_to_another_key_until_it_is_revoked(server: Server, client: Client) -> None:
    docset = client.create_docset("my-corpus", "subject:coal")
    with server.client() as guest:
        with pytest.raises(NotFound):
            guest.docset(docset.id)
        share = docset.share(days=3)
        assert (share.expires - share.created).days == 3
        shared = guest.follow_share(share.link)
        assert (shared.id, guest.docset(docset.id).size) == (docset.id, 25)
        assert len(list(shared.members())) == 25
        assert shared.package("meta").wait().documents.included == 25
        default = docset.share()
        assert [(each.id, each.guests) for each in docset.shares()] == [(share.id, 1), (default.id, 0)]
        share.revoke()
        with pytest.raises(NotFound):
            guest.docset(docset.id)
        with pytest.raises(Forbidden):
            guest.follow_share(share.link)
        assert guest.follow_share(default.link).id == docset.id
