"""Downloads and calls over a network that fails."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from adit_tdm import Client, DamagedDownload, Docset, Package, Unavailable, Unreachable

from .proxy import Proxy, proxy
from .servers import Server, serving

MB = 1_000_000


@pytest.fixture
def package(docset: Docset) -> Package:
    """One of about 11 MB."""
    made = docset.package(["pdf"]).wait()
    assert (made.size or 0) > 11 * MB
    return made


@contextmanager
def by_way_of(faulty: Proxy, server: Server, client: Client) -> Iterator[Client]:
    """A client with the same key that asks through a proxy."""
    with server.client(url=faulty.url, key=client._api._key) as other:
        yield other


def test_a_download_that_is_cut_ten_times_goes_on_each_time(server: Server, client: Client, package: Package, tmp_path: Path) -> None:
    with proxy(server.url, [2000] + [MB] * 10) as faulty, by_way_of(faulty, server, client) as cut:
        archive = cut.package(package.id).download(tmp_path / "a.zip")
        assert faulty.cuts_left() == 0
        ranges = faulty.ranges()
    assert len(ranges) >= 9
    assert ranges == sorted(set(ranges)), "nothing was asked for twice"
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == package.sha256
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_a_later_call_goes_on_where_an_earlier_one_stopped(
    server: Server, client: Client, docset: Docset, package: Package, tmp_path: Path
) -> None:
    target = tmp_path / "a.zip"
    with (
        proxy(server.url, [5 * MB] + [1] * 20) as faulty,
        by_way_of(faulty, server, client) as cut,
        pytest.raises(Unreachable, match="run it again"),
    ):
        cut.package(package.id).download(target)
    arrived = (tmp_path / "a.zip.part").stat().st_size
    assert not target.exists()
    assert 4 * MB < arrived < 5 * MB
    # In between the archive goes away, and is built again: the same bytes.
    package.delete()
    again = docset.package(["pdf"]).wait()
    assert again.id != package.id
    with proxy(server.url, []) as whole, by_way_of(whole, server, client) as other:
        other.package(again.id).download(target)
        assert whole.ranges() == [arrived]
    assert hashlib.sha256(target.read_bytes()).hexdigest() == package.sha256
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("tag", ['"another"', ""])
def test_bytes_of_another_file_are_not_gone_on_with(package: Package, tmp_path: Path, tag: str) -> None:
    (tmp_path / "a.zip.part").write_bytes(b"x" * 1000)
    (tmp_path / "a.zip.part.etag").write_text(tag)
    archive = package.download(tmp_path / "a.zip")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == package.sha256


def test_a_part_that_is_longer_than_the_file_is_begun_anew(package: Package, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(b"x" * (12 * MB))
    (tmp_path / "a.zip.part.etag").write_text(f'"{package.sha256}"')
    archive = package.download(tmp_path / "a.zip")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == package.sha256


def test_damage_is_found_and_removed(package: Package, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(b"x" * 1000)
    (tmp_path / "a.zip.part.etag").write_text(f'"{package.sha256}"')
    with pytest.raises(DamagedDownload, match="try again"):
        package.download(tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again_after_the_time_that_it_names(server: Server, client: Client) -> None:
    with proxy(server.url, [0, 0]) as away, by_way_of(away, server, client) as patient:
        assert patient.me().role == "miner"
        assert away.connections == 3
    with (
        proxy(server.url, [0, 0]) as away,
        server.client(url=away.url, patience=0.5) as hasty,
        pytest.raises(Unavailable) as refused,
    ):
        hasty.create_docset("my-corpus", "*")
    assert (refused.value.status, refused.value.retry_after) == (503, 1.0)
    assert away.connections == 1


def test_an_answer_that_was_lost_is_asked_for_again_only_where_that_changes_nothing(server: Server, client: Client) -> None:
    with proxy(server.url, [10]) as faulty, by_way_of(faulty, server, client) as cut:
        assert cut.me().role == "miner"
        assert faulty.connections == 2
    with proxy(server.url, [10]) as faulty, by_way_of(faulty, server, client) as cut:
        with pytest.raises(Unreachable):
            cut.create_docset("my-corpus", "*")
        assert faulty.connections == 1


def test_a_download_from_a_bucket_goes_on_and_the_bucket_never_sees_the_key(tmp_path: Path) -> None:
    store = os.environ.get("ADIT_TEST_S3_URL")
    if store is None:
        pytest.skip("ADIT_TEST_S3_URL names no bucket; `tests/run --with seaweedfs --exec clients/python/run-tests` starts one")
    (endpoint,) = parse_qs(urlsplit(store).query)["endpoint"]
    with proxy(endpoint, []) as bucket:
        url = store.replace(endpoint, bucket.url).replace("adit/test", "adit/python")
        with serving(tmp_path, ADIT_STORE_URL=url) as server, server.client() as client:
            package = client.create_docset("my-corpus", "*").package(["pdf"]).wait()
            # All connections; what the server's own ones bring is less than that.
            bucket.cut([3 * MB] * 100)
            archive = package.download(tmp_path / "a.zip")
    signed = bucket.ranges(of=b"X-Amz-Signature=")
    assert signed == sorted({*signed} - {0}) != [], "the download was cut and gone on with"
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == package.sha256
    assert [request for request in bucket.requests if b"bearer" in request.lower()] == []
