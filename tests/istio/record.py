"""Write down anew what Istio makes of each policy, and which of them the quick engine refuses.

    python tests/istio/record.py

Each file in records/ is a JSON merge patch of records/no-policy.json: what a policy changes. Look through the changes
before you commit them: a line in refused.txt that was not there is something that the quick engine did before.
"""

from __future__ import annotations

import sys

from istiod import VERSION, istiod
from meaning import meaning
from records import (
    HINT,
    NO_POLICY,
    REASONS,
    RECORDS,
    REFUSED,
    format_json,
    format_lines,
    invalid,
    load,
    make_patch,
    policies,
    quick_meaning,
    refused_field,
)

from meshdemo.lab.files.manifests import ManifestError


def main() -> int:
    problems = []
    values = {}
    for name, path in policies().items():
        cluster = load(path)
        try:
            values[name] = meaning(istiod(cluster), cluster)
        except ManifestError as error:
            problems.append(f"{path}: {error}; it belongs into invalid/")
    reasons = []
    for name, path in invalid().items():
        try:
            cluster = load(path)
            istiod(cluster)
            problems.append(f"{path}: Istio takes it; it belongs into policies/")
        except ManifestError as error:
            reasons.append((name, str(error)))
    if problems:
        sys.stderr.write("\n".join([*problems, ""]))
        return 1
    for file in RECORDS.glob("*.json"):
        file.unlink()
    for name, value in values.items():
        record = value if name == NO_POLICY else make_patch(values[NO_POLICY], value)
        (RECORDS / f"{name}.json").write_text(format_json(record) + "\n")
    (RECORDS / "version.txt").write_text(f"Istio {VERSION}\n")
    REASONS.write_text(format_lines("Why Istio refuses what is in invalid/; written by record.py.", reasons))
    REFUSED.write_text(
        format_lines("What the quick engine refuses though Istio takes it; written by record.py.", _refused())
    )
    print(f"{len(values)} records, {len(reasons)} refused by Istio")
    return 0


def _refused() -> list[tuple[str, str]]:
    refused = []
    for name, path in policies().items():
        try:
            quick_meaning(path)
        except ManifestError as error:
            if HINT in str(error):
                refused.append((name, refused_field(error)))
    return refused


if __name__ == "__main__":
    sys.exit(main())
