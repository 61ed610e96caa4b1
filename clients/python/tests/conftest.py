"""What all tests share: one server for all of them, and clients of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from adit_tdm import Client, Docset

from .servers import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("adit")) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A client whose key has been used for nothing else."""
    with server.client() as made:
        yield made


@pytest.fixture
def docset(client: Client) -> Docset:
    """All documents."""
    return client.create_docset("my-corpus", "*")
