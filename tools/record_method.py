"""Record a decision on an edit of code that measures: run after raising a version or deciding to keep it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from deepgap.jobs.method_guard import RECORD, describe_rooms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reason", help="why the edit can or cannot change a measured number")
    reason = parser.parse_args().reason
    root = Path(__file__).resolve().parent.parent
    file = root / RECORD
    record = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for room, found in describe_rooms().items():
        entries = record.setdefault(room, [])
        if not entries or {key: entries[-1][key] for key in found} != found:
            entries.append({**found, "reason": reason})
    file.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
