import numpy as np
import pytest

from fgsam.data.synthetic import load

SMALL = {"num_nodes": 900, "num_features": 400, "num_classes": 12, "words_per_node": 20, "mean_degree": 6}


def test_same_options_give_the_same_bits():
    assert load(**SMALL).digest == load(**SMALL).digest


@pytest.mark.parametrize("change", [{"seed": 1}, {"topic_share": 0.5}, {"stray_share": 0}, {"homophily": 0.5}])
def test_every_option_changes_the_graph(change):
    assert load(**SMALL).digest != load(**SMALL | change).digest


def test_counts_are_those_asked_for():
    graph = load(**SMALL)
    sizes = graph.labels.bincount()
    assert (graph.num_nodes, graph.num_features, graph.num_classes) == (900, 400, 12)
    assert graph.num_edges == 900 * 6
    assert not graph.is_directed
    assert (graph.degree > 0).all()
    assert sizes.min() == 15
    assert sizes.max() > 3 * sizes.median()
    words = graph.x.scipy()
    assert set(words.data.tolist()) == {1.0}
    assert words.nnz / 900 == pytest.approx(20, rel=0.15)


@pytest.mark.parametrize("homophily", [0.2, 0.57, 0.9])
def test_homophily_is_met(homophily):
    graph = load(**SMALL | {"homophily": homophily, "stray_share": 0.04})
    source, target = graph.edge_index
    same = (graph.labels[source] == graph.labels[target]).double().mean()
    assert same == pytest.approx(homophily, abs=1e-3)


def test_degrees_are_uneven():
    degree = load(**SMALL).degree
    assert degree.max() > 4 * degree.median()


def test_topical_words_tell_classes_apart():
    def gap(topic_share):
        """Words that two documents share, in one class against in two."""
        graph = load(**SMALL, topic_share=topic_share)
        words = graph.x.scipy()
        shared = (words @ words.T).toarray()
        same = graph.labels[:, None].numpy() == graph.labels.numpy()
        np.fill_diagonal(same, False)
        return shared[same].mean() / shared[~same].mean()

    assert gap(0.0) == pytest.approx(1.0, abs=0.03)
    assert gap(0.4) > 1.2


def test_citations_can_keep_one_direction():
    graph = load(**SMALL, symmetrise=False)
    assert graph.is_directed
    assert graph.num_edges == 900 * 3


def test_two_classes_without_homophily_find_each_other():
    graph = load(num_nodes=40, num_features=60, num_classes=2, words_per_node=10, mean_degree=4, homophily=0.0)
    source, target = graph.edge_index
    assert (graph.labels[source] != graph.labels[target]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 1}, r"'num_classes' to be between 2 and 450 \(got num_classes=1\)"),
        ({"mean_degree": 1}, "'mean_degree' to be between 2 and 225"),
        ({"num_features": 39}, "'num_features' to be between 40 and"),
        ({"words_per_node": 0}, "'words_per_node' to be positive"),
        ({"stray_share": 0.3}, r"'stray_share' to be between 0 and 0\.215 \(got stray_share=0\.3\)"),
        ({"homophily": 1.5}, "'homophily' to be between 0 and 1"),
    ],
)
def test_options_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        load(**SMALL | change)


def test_citations_without_room_are_refused():
    with pytest.raises(ValueError, match=r"room for 450 citations \(placed 120\)\. Lower 'mean_degree'"):
        load(
            num_nodes=60,
            num_features=60,
            num_classes=12,
            words_per_node=5,
            mean_degree=15,
            homophily=1.0,
            stray_share=0,
        )
