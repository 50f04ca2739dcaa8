"""Intervals over clustered rows."""

import pytest

from semihv_hf.evaluation.statistics import clustered_interval, paired_difference


def test_the_interval_holds_the_mean_and_repeats_with_its_seed():
    values = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    clusters = list("aabbccdd")
    low, high = clustered_interval(values, clusters, seed=1)
    assert 0 <= low < 0.625 < high <= 1
    assert clustered_interval(values, clusters, seed=1) == [low, high]


def test_asking_the_same_cases_more_often_makes_nothing_surer():
    values, clusters = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0], [str(n) for n in range(8)]
    once = clustered_interval(values, clusters, seed=0)
    assert clustered_interval(values * 50, clusters * 50, seed=0) == pytest.approx(once)
    # As independent rows, four hundred of them would look far surer than they are.
    apart = clustered_interval(values * 50, [str(n) for n in range(400)], seed=0)
    assert apart[1] - apart[0] < (once[1] - once[0]) / 3


def test_the_width_is_that_of_the_normal_approximation():
    values, clusters = [float(n % 2) for n in range(400)], [str(n) for n in range(400)]
    low, high = clustered_interval(values, clusters, samples=4000)
    assert high - low == pytest.approx(2 * 1.96 * (0.25 / 400) ** 0.5, rel=0.1)


def test_clusters_of_uneven_size_weigh_by_their_rows():
    low, high = clustered_interval([1.0] * 9 + [0.0], ["a"] * 9 + ["b"], seed=0)
    assert (low, high) == (0.0, 1.0)


def test_one_cluster_gives_no_interval():
    assert clustered_interval([1.0, 0.0], ["a", "a"]) is None
    assert clustered_interval([], []) is None


def test_a_paired_difference_is_surer_than_two_apart():
    first = [float(n % 2 == 0) for n in range(100)]
    second = [0.0 if n % 10 == 0 else value for n, value in enumerate(first)]
    clusters = [str(n) for n in range(100)]
    result = paired_difference(first, second, clusters)
    assert result["difference"] == pytest.approx(0.1)
    assert (result["n"], result["n_clusters"]) == (100, 100)
    assert result["ci95"][0] > 0
    assert paired_difference(first, first, clusters)["ci95"] == [0.0, 0.0]
    assert paired_difference([], [], [])["difference"] is None


def test_rows_that_cannot_be_paired_are_refused():
    with pytest.raises(ValueError, match="2 scores cannot be paired with 1"):
        paired_difference([1.0, 0.0], [1.0], ["a", "b"])
    with pytest.raises(ValueError, match="2 values for 1"):
        clustered_interval([1.0, 0.0], ["a"])
