"""Makes what the contract tests ask about, with ids 1, 2 and 3: docsets, a finished package of each, and watches.

Usage: prepare.py URL, with the owner's key in ADIT_CONTRACT_KEY.
"""

import os
import sys
import time

import requests

# A query, and what to pack of its hits. The second collides with no other fingerprint: equal wishes share a package.
WANTED = [
    ("*", {"formats": ["txt"]}),
    ("package", {"formats": ["txt", "meta"], "layout": "bag"}),
    ("docset", {"formats": ["txt", "pdf"]}),
]


def main(url: str) -> None:
    session = requests.Session()
    session.headers["X-Api-Key"] = os.environ["ADIT_CONTRACT_KEY"]

    def answered(response: requests.Response) -> dict:
        if not response.ok:
            sys.exit(f"{response.request.method} {response.url}: {response.status_code} {response.text}")
        return response.json()

    for number, (query, wish) in enumerate(WANTED, start=1):
        docset = answered(session.post(f"{url}/api/docsets", json={"collection": "docs", "query": query}))
        package = answered(session.post(f"{docset['url']}/packages", json=wish))
        watch = answered(session.post(f"{url}/api/collections/docs/watch", json={"query": query}))
        deadline = time.monotonic() + 60
        while not package["terminal"] and time.monotonic() < deadline:
            time.sleep(0.1)
            package = answered(session.get(package["url"]))
        found = (docset["id"], watch["id"], package["id"], package["status"])
        wanted = (number, number, number, "successful")
        if found != wanted:
            sys.exit(f"docset, watch, package and status are {found}, not {wanted}")


if __name__ == "__main__":
    main(sys.argv[1])
