"""Shows how each operation answered in each pass: how often with success, how often with a refusal, and the statuses. Fails where
one was never called, or never answered the operator with success.

Usage: report.py OPENAPI FOLDER, which holds PASS.json of hooks.py for each pass.
"""

import json
import sys
from pathlib import Path

import yaml

METHODS = ("get", "put", "post", "delete", "patch")


def main(contract: Path, folder: Path) -> None:
    paths = yaml.safe_load(contract.read_text())["paths"]
    operations = [f"{method.upper()} {path}" for path, item in paths.items() for method in METHODS if method in item]
    passes = {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}
    faults = []
    print(f"{'succeeded + refused':48}" + "".join(f"{name:>12}" for name in passes) + "  statuses")
    for operation in operations:
        cells, seen = [], set()
        for name, answers in passes.items():
            counts = answers.get(operation, {})
            succeeded = sum(count for status, count in counts.items() if status < "400")
            seen |= counts.keys()
            cells.append(f"{succeeded} + {sum(counts.values()) - succeeded}")
            if not counts:
                faults.append(f"{name}: {operation} was never called")
            elif name == "operator" and not succeeded:
                faults.append(f"{name}: {operation} never succeeded")
        print(f"{operation:48}" + "".join(f"{cell:>12}" for cell in cells) + "  " + " ".join(sorted(seen)))
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
