"""Takes Elasticsearch's server out of the wheel, and makes it fit the Lucene that is with it.

    unpack.py WHEEL FOLDER

The wheel (pyserini, Apache-2.0) has one Java archive, with Elasticsearch 7.0.0 (Apache-2.0) and Lucene 8.3, which is three releases newer than
what that was built on. Two things keep the server from starting there: two methods that it overrides have become final, and the archive's lists of
codecs name one of them only.
"""

import io
import struct
import sys
import zipfile
from pathlib import Path

SEARCHER = "org/apache/lucene/search/IndexSearcher.class"
OPENED = {"termStatistics", "collectionStatistics"}
FORMATS = "META-INF/services/org.apache.lucene.codecs.DocValuesFormat"
ACC_FINAL = 0x10
# Lengths of the constants of a class file by their tags (JVM specification, 4.4), without the tag; UTF-8 (1) tells its own.
CONSTANTS = {3: 4, 4: 4, 5: 8, 6: 8, 7: 2, 8: 2, 9: 4, 10: 4, 11: 4, 12: 4, 15: 3, 16: 2, 17: 4, 18: 4, 19: 2, 20: 2}


def opened(data: bytes) -> bytes:
    """The class with OPENED methods that may be overridden."""
    out = bytearray(data)
    names, at, number = {}, 10, 1
    (count,) = struct.unpack_from(">H", data, 8)
    while number < count:
        tag = data[at]
        if tag == 1:
            (length,) = struct.unpack_from(">H", data, at + 1)
            names[number] = data[at + 3 : at + 3 + length].decode("utf-8", "replace")
            at += 3 + length
        else:
            at += 1 + CONSTANTS[tag]
        number += 2 if tag in (5, 6) else 1
    (interfaces,) = struct.unpack_from(">H", data, at + 6)
    at += 8 + 2 * interfaces
    for members in ("fields", "methods"):
        (count,) = struct.unpack_from(">H", data, at)
        at += 2
        for _ in range(count):
            access, name, _, attributes = struct.unpack_from(">4H", data, at)
            if members == "methods" and names[name] in OPENED:
                struct.pack_into(">H", out, at, access & ~ACC_FINAL)
            at += 8
            for _ in range(attributes):
                (length,) = struct.unpack_from(">I", data, at + 2)
                at += 6 + length
    return bytes(out)


def main(wheel: str, folder: str) -> None:
    target = Path(folder)
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".jar")]
        jar = archive.read(name)
    (target / "server.jar").write_bytes(jar)
    patched = {FORMATS: b"org.apache.lucene.codecs.lucene70.Lucene70DocValuesFormat\n"}
    with zipfile.ZipFile(io.BytesIO(jar)) as archive:
        patched[SEARCHER] = opened(archive.read(SEARCHER))
    for name, content in patched.items():
        path = target / "patched" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main(*sys.argv[1:])
