"""Every form of a bag is valid to its community's own validators, and they read in it what was imported."""

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import bagit
import corpus
import expected
import mlcroissant
import pytest
import rocrate.rocrate
from cffconvert import Citation
from crates import crate_issues

# The forms whose descriptions differ: the validator takes ten seconds for each.
CRATES = ["bag", "tar.zst", "jsonl", "parquet in shards"]
# What the RO-Crate validator would like to know besides, and a package cannot tell: who publishes it, and the lengths of lists.
UNKNOWN = {
    "The Root Data Entity SHOULD have a `publisher` property (Organization or Person)",
    "File Data Entities SHOULD have a `contentSize` property",
}


def test_bagit_finds_the_bag_valid(bag: Path) -> None:
    found = bagit.Bag(str(bag))
    found.validate(processes=1)
    assert found.info["Bag-Software-Agent"] == "Adit"
    told = " ".join(found.info["External-Description"].split())
    assert told.startswith(" ".join(corpus.COLLECTION["description"].split()))
    subprocess.run(
        ["sha256sum", "--check", "--quiet", "manifest-sha256.txt", "tagmanifest-sha256.txt"], cwd=bag, check=True
    )


@pytest.mark.parametrize("name", CRATES)
def test_the_crate_keeps_to_ro_crate_1_2(whole_bag: Callable[[str], Path], name: str) -> None:
    required, recommended = crate_issues(whole_bag(name))
    assert required == set()
    assert recommended <= UNKNOWN


def test_ro_crate_py_reads_the_crate(bag: Path) -> None:
    crate = rocrate.rocrate.ROCrate(bag)
    assert crate.name.startswith(corpus.COLLECTION["name"])
    assert crate.license["@id"] == corpus.COLLECTION["license"]
    assert {"data/", "README.md", "omitted.jsonl"} <= {entity.id for entity in crate.data_entities}


def test_cffconvert_takes_the_citation(bag: Path) -> None:
    citation = Citation((bag / "CITATION.cff").read_text(encoding="utf-8"))
    citation.validate()
    assert citation.cffobj["title"].startswith(corpus.COLLECTION["name"])
    assert citation.cffobj["abstract"].startswith(corpus.COLLECTION["description"])
    assert citation.cffobj["license"] == "CC-BY-4.0"
    assert corpus.COLLECTION["name"] in json.loads(citation.as_schemaorg())["name"]


def test_croissant_is_valid_and_reads_the_records(bag: Path, file_names: dict[str, str]) -> None:
    dataset = mlcroissant.Dataset(bag / "croissant.json")
    assert dataset.metadata.ctx.issues.report() == ""
    if any((bag / "data").glob("*.zst")):
        return  # mlcroissant reads no Zstandard yet
    if dataset.metadata.record_sets[0].id == "txt":
        found = {record["txt/name"].decode(): record["txt/text"] for record in dataset.records("txt")}
        files = expected.files(corpus.SECOND, file_names, ["txt"])
        assert found == {name.removesuffix(".txt"): content for name, content in files.items()}
        return
    found = {record["documents/ref"].decode(): record for record in dataset.records("documents")}
    for row in expected.rows(corpus.SECOND, file_names, parquet=any((bag / "data").glob("*.parquet"))):
        record = found.pop(row["ref"])
        for column in ("name", "license", "text", "text_sha256", "pdf", "creator"):
            wanted = row[column]
            if isinstance(wanted, list):
                wanted = [item.encode() for item in wanted]
            elif isinstance(wanted, str):
                wanted = wanted.encode()
            assert record[f"documents/{column}"] == wanted, (row["ref"], column)
    assert not found


def test_the_lists_say_whose_rights_and_what_is_omitted(bag: Path, file_names: dict[str, str]) -> None:
    omitted = [
        json.loads(line)["ref"] for line in (bag / "omitted.jsonl").read_text(encoding="utf-8").split("\n") if line
    ]
    described = any((bag / "data").glob("*.json"))
    assert sorted(omitted) == ([] if described else ["nothing"])
    if not (bag / "rights.csv").exists():
        return
    with (bag / "rights.csv").open(encoding="utf-8", newline="") as lines:
        rights = {row["path"]: row["license"] for row in csv.DictReader(lines)}
    assert rights.keys() == set(bagit.Bag(str(bag)).payload_entries())
    formats = ["txt"] if described else expected.FORMATS
    for path, license in expected.licenses(corpus.SECOND, file_names, formats).items():
        assert rights[f"data/{path}"] == license


@pytest.mark.parametrize("name", ["croissant.json", "ro-crate-metadata.json"])
def test_descriptions_are_plain_json(bag: Path, name: str) -> None:
    text = (bag / name).read_text(encoding="utf-8")
    assert json.dumps(json.loads(text), ensure_ascii=False, indent=2) + "\n" == text


def test_the_crate_validator_objects_where_it_should(whole_bag: Callable[[str], Path], tmp_path: Path) -> None:
    crate = json.loads((whole_bag("bag") / "ro-crate-metadata.json").read_text(encoding="utf-8"))
    (root,) = (entity for entity in crate["@graph"] if entity["@id"] == "./")
    del root["license"]
    (tmp_path / "ro-crate-metadata.json").write_text(json.dumps(crate))
    required, _ = crate_issues(tmp_path)
    assert any("`license`" in issue for issue in required)
