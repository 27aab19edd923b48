"""Compare the quick engine with Istio's own control plane, live, on random policies.

    python tests/istio/compare.py --seed 1 --count 200

Prints each policy that the two do not treat alike, with what differs, and at the end how many were the same, refused by
the quick engine, different, and refused by Istio, where a panic of Istio counts as well. Exits with 1 when one differs.
`--show` prints every policy with what came of it; `--only N` repeats the one policy with this number.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections import Counter

import yaml
from generate import Document, Generator
from istiod import istiod
from meaning import differences, meaning
from records import load_objects, refused_field

from meshdemo.lab import quick
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.quick.rules.refusing import RefusalError
from meshdemo.lab.words import summary

SAME, REFUSED, DIFFERENT, INVALID = "same", "refused", "different", "refused by Istio"


def compare(documents: list[Document]) -> tuple[str, list[str]]:
    """Return what came of a policy, and lines that say why: what differs, or the field that is refused."""
    refusal = None
    try:
        cluster = load_objects(documents)
    except ManifestError as error:
        return DIFFERENT, [f"the files are refused: {error}"]
    try:
        configuration = quick.configure(cluster)
        summary.policies(cluster, configuration)
        actual = meaning(configuration, cluster)
    except ManifestError as error:
        refusal = error
    except Exception:
        return DIFFERENT, ["the quick engine fails", *traceback.format_exc().splitlines()]
    try:
        expected = meaning(istiod(cluster), cluster)
    except ManifestError as error:
        # A panic is a defect of Istio's own, whatever the quick engine makes of the policy.
        is_theirs = refusal or "panic: " in str(error)
        return (INVALID, [str(error)]) if is_theirs else (DIFFERENT, [f"taken here, though {error}"])
    if refusal:
        if isinstance(refusal, RefusalError):
            return REFUSED, [refused_field(refusal)]
        return DIFFERENT, [f"refused as if Istio did: {refusal}"]
    lines = differences(expected, actual)
    return (DIFFERENT, lines) if lines else (SAME, [])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same policies")
    parser.add_argument("--count", type=int, default=100, help="how many policies")
    parser.add_argument("--only", type=int, help="the number of the one policy to compare")
    parser.add_argument("--show", action="store_true", help="print every policy with what came of it")
    options = parser.parse_args()
    generator = Generator(options.seed)
    outcomes: Counter[str] = Counter()
    fields: Counter[str] = Counter()
    for number in range(options.count if options.only is None else options.only + 1):
        documents = generator.policy()
        if options.only not in (None, number):
            continue
        outcome, lines = compare(documents)
        outcomes[outcome] += 1
        if outcome == REFUSED:
            kind, _, field = lines[0].partition(": ")
            fields[f"{kind.partition('/')[0]} {field}"] += 1
        if options.show or outcome == DIFFERENT:
            print(f"# --seed {options.seed} --only {number}: {outcome}")
            print(yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=118))
            print(*(f"#   {line}" for line in lines), "", sep="\n", flush=True)
    if options.show:
        print(*(f"refused {count} times: {field}" for field, count in fields.most_common()), sep="\n")
    print(", ".join(f"{outcomes[each]} {each}" for each in (SAME, REFUSED, DIFFERENT, INVALID)))
    return 1 if outcomes[DIFFERENT] else 0


if __name__ == "__main__":
    sys.exit(main())
