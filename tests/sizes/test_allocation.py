"""The dynamic programme against trying everything."""

from itertools import product

import numpy as np
import pytest

from dynabert_hf.sizes.allocation import allocate


def worth_of(options, chosen):
    return tuple(sum(each[number][part] for each, number in zip(options, chosen, strict=True)) for part in range(2))


def by_brute_force(options, budget):
    """The most worth within the budget; None if nothing is."""
    sums = [worth_of(options, chosen) for chosen in product(*(range(len(each)) for each in options))]
    return max((worth for cost, worth in sums if cost <= budget + 1e-9), default=None)


@pytest.mark.parametrize("seed", range(30))
def test_an_allocation_is_worth_as_much_as_the_best_of_all(seed):
    draw = np.random.default_rng(seed)
    whole = seed % 2  # whole numbers, so that sums are equal
    options = [
        [tuple(np.round(draw.random(2) * 8) if whole else draw.random(2)) for _ in range(draw.integers(1, 6))]
        for _ in range(draw.integers(1, 6))
    ]
    for budget in np.linspace(0, sum(max(each)[0] for each in options), 7):
        best, chosen = by_brute_force(options, budget), allocate(options, budget)
        assert (chosen is None) == (best is None)
        if chosen is not None:
            cost, worth = worth_of(options, chosen)
            assert cost <= budget + 1e-9
            assert worth == pytest.approx(best, abs=1e-12)


def test_a_budget_that_is_met_to_the_last_digit_is_kept():
    assert allocate([[(0.1, 1)], [(0.2, 1)]], budget=0.3) == [0, 0]  # 0.1 + 0.2 is more than 0.3
    assert allocate([[(2, 1)], [(2, 1)]], budget=3.9) is None


def test_too_many_sums_are_thinned_and_the_answer_stays_within_the_budget():
    draw = np.random.default_rng(0)
    options = [[tuple(draw.random(2)) for _ in range(6)] for _ in range(6)]
    exact, thinned = (worth_of(options, allocate(options, 2.0, most_states=most)) for most in (10**6, 20))
    assert thinned[0] <= 2.0
    assert 0.8 * exact[1] < thinned[1] <= exact[1]
