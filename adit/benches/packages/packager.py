"""A packager of the kind that Adit replaces: it asks the API for one document after the other, deflates each into a ZIP archive on the
disk, and uploads that at the end.

    packager.py API DOCSET FORMATS DOCUMENTS FOLDER [ENDPOINT BUCKET KEY]

The key is in ADIT_API_KEY. Without a bucket the archive stays in the folder, under another name. It prints what it did as JSON; the time is that
of the work alone, without the start of Python.
"""

import json
import os
import sys
import time
import zipfile

import boto3
import requests


def members(session, api, docset):
    """The docset's members, page by page."""
    url = f"{api}/api/docsets/{docset}/members?limit=1000"
    while url:
        answer = session.get(url)
        answer.raise_for_status()
        yield from answer.json()["members"]
        url = answer.links.get("next", {}).get("url")


def main(api, docset, formats, documents, folder, *s3):
    session = requests.Session()
    session.headers["X-Api-Key"] = os.environ["ADIT_API_KEY"]
    path = os.path.join(folder, "python.zip.part")
    began = time.perf_counter()
    client = boto3.client("s3", endpoint_url=s3[0] or None, region_name="us-east-1") if s3 else None
    done = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in members(session, api, docset):
            for name in formats.split(","):
                answer = session.get(f"{member['url']}/files/{name}")
                if answer.status_code == 404:
                    continue
                answer.raise_for_status()
                extension = "json" if name == "meta" else name
                archive.writestr(f"{member['ref']}.{extension}", answer.content)
            done += 1
            if done == int(documents):
                break
    size = os.path.getsize(path)
    if client:
        client.upload_file(path, s3[1], s3[2])
        os.remove(path)
    else:
        os.replace(path, os.path.join(folder, "python.zip"))
    seconds = time.perf_counter() - began
    print(json.dumps({"documents": done, "bytes": size, "seconds": seconds}))
    if done != int(documents):
        sys.exit(f"{done} documents came, not {documents}")


if __name__ == "__main__":
    main(*sys.argv[1:])
