"""The records are what Istio's control plane says now; of random policies it says what the quick engine makes."""

import pytest
from compare import DIFFERENT, SAME, compare
from generate import Generator
from istiod import istiod
from meaning import differences, meaning
from records import load, policies, recorded_meaning

pytestmark = pytest.mark.usefixtures("built_istiod")
POLICIES = policies()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if number % 4 == 0 else pytest.mark.thorough)
        for number, name in enumerate(sorted(POLICIES)[::20])
    ],
)
def test_record(name):
    """What was recorded of a policy is what Istio's control plane makes of it."""
    cluster = load(POLICIES[name])
    assert differences(recorded_meaning(name), meaning(istiod(cluster), cluster)) == []


@pytest.mark.parametrize(("count", "same"), [(6, 3), pytest.param(30, 15, marks=pytest.mark.thorough)])
def test_random_policies(count, same):
    """Random policies have the same meaning, or are refused: none is made into something else."""
    generator = Generator(2026)
    outcomes = [compare(generator.policy()) for _ in range(count)]
    assert [lines for outcome, lines in outcomes if outcome == DIFFERENT] == []
    assert sum(outcome == SAME for outcome, _ in outcomes) >= same
