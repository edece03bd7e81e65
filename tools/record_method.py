"""Record that an edit of the measuring modules was decided: run after raising METHOD_VERSION or keeping it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from deepgap.jobs.digest import syntax_digest
from deepgap.study.method import METHOD_MODULES, METHOD_VERSION

RECORD = Path(__file__).resolve().parent.parent / "tests/unit/method_digests.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reason", help="why the edit can or cannot change a measured number")
    entry = {
        "method_version": METHOD_VERSION,
        "digest": syntax_digest(METHOD_MODULES),
        "reason": parser.parse_args().reason,
    }
    entries = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else []
    RECORD.write_text(json.dumps([*entries, entry], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
