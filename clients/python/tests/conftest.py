"""What all tests share: one server for all of them, and clients of it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from adit_tdm import Client, Docset

from .servers import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("adit")) as running:
        yield running


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that keeps packages in a bucket, where `tests/run --with seaweedfs` has started one."""
    url = os.environ.get("ADIT_TEST_S3_URL")
    if url is None:
        pytest.skip("ADIT_TEST_S3_URL names no bucket")
    with serving(tmp_path_factory.mktemp("adit-s3"), ADIT_STORE_URL=url.replace("adit/test", "adit/python")) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A client whose key has been used for nothing else."""
    with server.client() as made:
        yield made


@pytest.fixture
def docset(client: Client) -> Docset:
    """All documents."""
    return client.create_docset("tunnels", "*")
