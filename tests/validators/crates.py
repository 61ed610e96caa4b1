"""The RO-Crate validator without a network: what it would fetch, it finds in the package rocrate."""

import io
from pathlib import Path

import requests
import rocrate
import urllib3
from rocrate_validator import models, services

# JSON-LD contexts only grow: that of RO-Crate 1.3 says of every term of 1.2 what 1.2 says.
CONTEXT = (Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_bytes()


class Contexts(requests.adapters.HTTPAdapter):
    """Answers every request for RO-Crate's own pages, and no other."""

    def send(self, request: requests.PreparedRequest, **_: object) -> requests.Response:
        known = request.url.startswith(("https://w3id.org/ro/crate/", "https://www.researchobject.org/ro-crate/"))
        body = io.BytesIO(CONTEXT if known else b"")
        headers = {"Content-Type": "application/ld+json"}
        raw = urllib3.HTTPResponse(body=body, status=200 if known else 404, headers=headers, preload_content=False)
        return self.build_response(request, raw)


def crate_issues(folder: Path) -> tuple[set[str], set[str]]:
    """What the validator has against a crate, in its words: what must be otherwise, and what should be."""
    settings = services.ValidationSettings(
        rocrate_uri=str(folder),
        profile_identifier="ro-crate-1.2",
        requirement_severity=models.Severity.RECOMMENDED,
        no_cache=True,
    )
    before = requests.adapters.HTTPAdapter.send
    requests.adapters.HTTPAdapter.send = Contexts.send
    try:
        result = services.validate(settings)
    finally:
        requests.adapters.HTTPAdapter.send = before
    assert result.executed_checks, "the validator checked nothing"
    required = {issue.message for issue in result.get_issues() if issue.severity == models.Severity.REQUIRED}
    return required, {issue.message for issue in result.get_issues()} - required
