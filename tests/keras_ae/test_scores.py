import itertools

import numpy as np
import pytest

from keras_ae import scores
from keras_ae.scores import ALL, Layout, Sample, Sums, Table

LAYOUT = Layout((10, 100, 500), {"model": 2, "baseline": 1})


def make_scores(count: int, seed: int = 0) -> Table:
    """Scores of both signs over ten orders of magnitude, in two slices by label."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, 4)) * 10.0 ** rng.uniform(-8, 2, (count, 4))
    names = [f"{seed}/{i:05d}.png" for i in range(count)]
    digests = [f"{digit:016x}" for digit in rng.integers(0, 2**62, count)]
    labels = rng.choice(["cat", "dog"], count).tolist()
    return scores.make_table(names, digests, {"label": labels}, values)


def sums_of(*tables: Table) -> Sums:
    sums = Sums()
    for table in tables:
        sums.add(table)
    return sums


def test_sums_are_the_same_bits_in_any_order_and_any_parts():
    whole = make_scores(1000)
    expected = sums_of(whole)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(1000)
        mixed = whole.take(order)
        parts = [mixed.take(slice(a, b)) for a, b in itertools.pairwise([0, 1, 300, 999, 1000])]
        merged = sums_of(*parts[:2])
        merged.merge(sums_of(*parts[2:]))
        for key in expected.keys:
            assert merged.mean(key).tolist() == expected.mean(key).tolist()
            assert merged.images(key) == expected.images(key)


def test_means_are_those_of_exact_fractions():
    table = make_scores(501)
    means = sums_of(table).mean()
    np.testing.assert_allclose(means, table.values.astype(np.float64).mean(0), rtol=1e-9)
    cats = table.take(table.slices["label"] == "cat")
    of_cats = sums_of(table).mean(("label", "cat"))
    np.testing.assert_allclose(of_cats, cats.values.astype(np.float64).mean(0), rtol=1e-9)


def test_a_sum_of_very_many_images_does_not_overflow():
    table = scores.make_table(["a"], ["0"], {}, np.array([[100.0]]))
    sums = sums_of(table)
    for _ in range(50):
        sums.merge(sums_of(table))
        double = Sums()
        double.merge(sums)
        sums.merge(double)
    assert sums.images() > 2**50
    assert sums.mean().tolist() == [100.0]


def test_nan_is_skipped_and_counted():
    values = np.array([[1.0, np.nan], [2.0, np.nan], [6.0, np.nan]], np.float32)
    values[1, 0] = np.nan
    labels = ["cat", "dog", "cat"]
    sums = sums_of(scores.make_table(["a", "b", "c"], ["0", "1", "2"], {"label": labels}, values))
    assert sums.images() == 3
    assert sums.count().tolist() == [2, 0]
    assert sums.mean()[0] == 3.5
    assert np.isnan(sums.mean()[1])
    assert sums.keys == [ALL, ("label", "cat"), ("label", "dog")]
    assert sums.images(("label", "dog")) == 1
    assert np.isnan(sums.mean(("label", "dog"))).all()


def test_the_largest_file_of_each_picture_is_kept_in_any_order():
    def table(names: str, pictures: list[str], value: float) -> scores.Table:
        values = np.full((len(names), 1), value)
        return scores.make_table([*names], [*names.upper()], {"label": [*names]}, values, pictures)

    tables = [
        (table("abc", ["", "x", "y"], 1), 100),
        (table("de", ["x", "x"], 2), 400),
        (table("fg", ["y", ""], 3), 50),
    ]
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        first, second = scores.LargestCopies(), scores.LargestCopies()
        single = [first.add(*tables[order[0]]), *(second.add(*tables[i]) for i in order[1:])]
        first.merge(second)
        kept = first.table()
        assert kept.sources.tolist() == ["d", "c"]
        assert kept.values[:, 0].tolist() == [2, 1]
        assert sorted(name for part in single for name in part.sources) == ["a", "g"]


def test_a_sample_is_the_same_in_any_order_of_adding_and_merging():
    parts = [make_scores(90, seed) for seed in range(5)]
    expected = scores.concatenate(parts)
    lowest = sorted(zip(expected.digests, expected.sources))[:50]
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
        first, second = Sample(50), Sample(50)
        for i in order[:2]:
            first.add(parts[i])
        for i in order[2:]:
            second.add(parts[i])
        first.merge(second)
        kept = first.table()
        assert sorted(zip(kept.digests, kept.sources)) == lowest
        assert kept.sources.tolist() == sorted(kept.sources)
        rows = [expected.sources.tolist().index(source) for source in kept.sources]
        assert np.array_equal(kept.values, expected.values[rows])
        assert kept.slices["label"].tolist() == expected.slices["label"][rows].tolist()


def test_a_sample_of_few_images_is_all_of_them():
    sample = Sample(50)
    sample.add(make_scores(20))
    assert sample.table().sources.tolist() == make_scores(20).sources.tolist()
    assert len(Sample().table()) == 0


def test_a_layout_gives_views_by_ladder_seed_and_budget():
    assert LAYOUT.width == 2 + 3 * 3 * 4
    matrix = np.zeros((7, LAYOUT.width))
    matrix[:, LAYOUT.floor_column("global_pca")] = 5
    for number, ladder in enumerate(LAYOUT.seeds):
        for metric in scores.METRICS:
            view = LAYOUT.select(matrix, ladder, metric)
            assert view.shape == (7, LAYOUT.seeds[ladder], 3)
            view += 1 + number
    assert sorted(set(matrix[0, 2:])) == [1, 2]
    assert matrix[0].tolist() == [0, 5] + 24 * [1] + 12 * [2]
    with pytest.raises(KeyError):
        LAYOUT.select(matrix, "tuned", "psnr")


def test_many_images_at_once_do_not_overflow():
    layout = Layout((10,), {"model": 1})
    values = np.full((20_000, layout.width), 100.0, np.float32)
    names = [str(i) for i in range(20_000)]
    sums = Sums()
    sums.add(scores.make_table(names, names, {"label": ["a"] * 20_000}, values))
    assert sums.mean().tolist() == [100.0] * layout.width
    assert sums.mean(("label", "a")).tolist() == [100.0] * layout.width
    assert sums.images() == 20_000
