import json

import numpy as np
import pytest

from fgsam.episodes import split as splits
from fgsam.episodes.split import ClassSplit


def test_draw_divides_the_classes_without_overlap():
    split = ClassSplit.draw(range(12), (5, 3, 4), np.random.default_rng(0))
    parts = [split.meta_train, split.meta_val, split.meta_test]
    assert [len(part) for part in parts] == [5, 3, 4]
    assert sorted(sum(parts, ())) == list(range(12))


def test_order_of_the_classes_does_not_matter():
    first = ClassSplit.draw([3, 1, 2], (1, 1, 1), np.random.default_rng(0))
    assert first == ClassSplit.draw([1, 2, 3], (1, 1, 1), np.random.default_rng(0))


@pytest.mark.parametrize("counts", [(5, 5, 5), (5, 5), (13, -1, 0)])
def test_counts_that_do_not_fit_are_refused(counts):
    with pytest.raises(ValueError, match=r"three numbers of classes, at most 12 together .* Lower them"):
        ClassSplit.draw(range(12), counts, np.random.default_rng(0))


def test_digest_depends_on_the_sets_alone():
    split = ClassSplit("a", (1, 0), (2,), (3,))
    assert split.digest == ClassSplit("b", (0, 1), (2,), (3,)).digest
    assert split.digest != ClassSplit("a", (0,), (1, 2), (3,)).digest


def test_class_in_two_sets_is_named():
    with pytest.raises(ValueError, match=r"got classes \[2, 3\] more than once"):
        ClassSplit("mine", (0, 2, 3), (2,), (3,))
    with pytest.raises(ValueError, match=r"at least 0 .*got -1"):
        ClassSplit("mine", (0, -1), (), ())


@pytest.mark.parametrize(("num_classes", "n_way"), [(15, 5), (16, 5), (20, 5), (70, 5), (9, 2), (6, 2)])
def test_default_counts_leave_an_episode_to_every_part(num_classes, n_way):
    counts = ClassSplit.default_counts(num_classes, n_way)
    assert sum(counts) == num_classes
    assert min(counts) >= n_way


def test_default_counts_say_when_there_are_too_few_classes():
    with pytest.raises(ValueError, match=r"got n_way=5, classes=14\)\. Lower episode\.n_way to 4"):
        ClassSplit.default_counts(14, n_way=5)


def test_wrong_split_lists_what_exists():
    with pytest.raises(ValueError, match=r"got 20\)\. There are 0 to 19\.$"):
        ClassSplit.load("coauthor_cs", 20)
    with pytest.raises(ValueError, match=r"got 'publisht'\)\. There are 0 to 19, 'published'\."):
        ClassSplit.load("corafull_derived", "publisht")


def test_split_may_have_no_validation_classes():
    split = ClassSplit.draw(range(5), (3, 0, 2), np.random.default_rng(0))
    assert (len(split.meta_train), split.meta_val, len(split.meta_test)) == (3, (), 2)
    assert split.entry()["meta_val"] == []


def test_combinations_of_classes_are_counted_by_part():
    split = ClassSplit("mine", range(6), (), (7, 8))
    assert split.num_combinations(2) == {"meta_train": 15, "meta_val": 0, "meta_test": 1}
    assert split.num_combinations(3) == {"meta_train": 20, "meta_val": 0, "meta_test": 0}


def test_graph_without_splits_says_why():
    with pytest.raises(ValueError, match=r"class splits \(got 'pubmed'\)\. It has 3 classes, too few .* own graph"):
        ClassSplit.load("pubmed")
    assert ClassSplit.names("pubmed") == []


def test_wrong_graph_names_the_nearest():
    with pytest.raises(ValueError, match=r"got 'coauthor_sc'\)\. Did you mean 'coauthor_cs'"):
        ClassSplit.load("coauthor_sc")


def test_altered_split_is_refused(tmp_path, monkeypatch):
    entry = ClassSplit("0", (0, 1), (2,), (3,)).entry() | {"meta_test": [4]}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "splits.json").write_text(json.dumps({"drawn": {"0": entry}, "published": {}}))
    monkeypatch.setattr(splits, "asset_folder", lambda kind: tmp_path)
    assert ClassSplit.names("mine") == ["0"]
    with pytest.raises(ValueError, match="was altered"):
        ClassSplit.load("mine")
