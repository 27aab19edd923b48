"""Write down anew what Istio makes of each policy, and which of them the quick engine refuses.

    python tests/istio/record.py [FILE.yaml ...]

A file that is given becomes a policy of its name; each lesson is one by itself. Look through the changes before you
commit them: a `refused` that was not there is something that the quick engine did before.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import yaml
from istiod import VERSION, istiod
from meaning import meaning
from records import (
    INVALID,
    LESSONS,
    NO_POLICY,
    ROOT,
    VERSION_FILE,
    Record,
    apply_changes,
    find_changes,
    load,
    quick_meaning,
    read_records,
    refused_field,
    write_records,
)

from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.quick.rules.refusing import RefusalError


def main(paths: list[str]) -> int:
    files = {stem: list(records) for stem, records in read_records().items()}
    lessons = sorted((ROOT / "k8s").glob("[!e]*/*.yaml"))  # but for exercises
    files[LESSONS] = [
        Record(NO_POLICY, []),
        *(Record(f"lesson-{each.parent.name}-{each.stem}", [], f"{each.parent.name}/{each.name}") for each in lessons),
    ]
    for path in map(Path, paths):
        objects = list(yaml.safe_load_all(path.read_text()))
        files.setdefault(objects[0]["kind"], []).append(Record(path.stem, objects))
    without = apply_changes({}, record(files[LESSONS][0], {}).changes)
    # What Istio refuses today stands among the other kinds tomorrow where it takes it then, and the other way round.
    done: dict[str, list[Record]] = {stem: [] for stem in files}
    for stem, records in files.items():
        for each in records:
            new = record(each, {} if each.name == NO_POLICY else without)
            kind = INVALID if new.reason else new.objects[0]["kind"] if stem == INVALID else stem
            done[kind].append(new)
    write_records({stem: sorted(each, key=sort_key) for stem, each in done.items()})
    VERSION_FILE.write_text(f"Istio {VERSION}\n")
    count = sum(map(len, done.values()))
    print(f"{count - len(done[INVALID])} records, {len(done[INVALID])} refused by Istio")
    return 0


def sort_key(policy: Record) -> tuple[bool, str]:
    """Return what puts policies into the order of their names, after none at all."""
    return policy.name != NO_POLICY, policy.name


def record(policy: Record, without: dict[str, object]) -> Record:
    """Return a policy with what Istio makes of it now, as changes of what it makes without."""
    bare = Record(policy.name, policy.objects, policy.lesson)
    try:
        cluster = load(bare)
        changes = tuple(find_changes(without, meaning(istiod(cluster), cluster)))
    except ManifestError as error:
        return dataclasses.replace(bare, reason=str(error))
    try:
        quick_meaning(bare)
    except ManifestError as error:
        if isinstance(error, RefusalError):
            return dataclasses.replace(bare, changes=changes, refused=refused_field(error))
    return dataclasses.replace(bare, changes=changes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
