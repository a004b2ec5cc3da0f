"""What a trained learner promises about its scores: what they depend on, and what scoring leaves alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fgsam.contract.check import Promises
from fgsam.contract.learner import QUERIES, Subject, bank, data, exam, poisoned, renumbered
from fgsam.contract.subject import expect, expect_close, expect_error, expect_same, values
from fgsam.engine.evaluate import BankScorer, evaluating
from fgsam.episodes.episode import Episode

PROMISES = Promises()

VIEWS = (False, True)
"""With the graph around an episode, and as the peer sees it."""

CLOSE = {"rtol": 1e-7, "atol": 1e-9}
"""Sums in another order, through steps of adaptation."""


def _keeps_queries_apart(subject: Subject) -> bool:
    return not subject.uses_queries


@PROMISES.check(peer=VIEWS)
def numbers_of_nodes_do_not_matter(subject: Subject, peer: bool) -> None:
    """A graph whose nodes are numbered otherwise gives the same scores."""
    learner, episode = subject.build(), exam()
    graph, place = renumbered(data().graph)
    moved = replace(episode, support=place[episode.support], query=place[episode.query])
    found = subject.logits(learner, moved, graph, peer=peer)
    expect_close(found, subject.logits(learner, episode, peer=peer), "scores after a renumbering of the nodes", **CLOSE)


@PROMISES.check(peer=VIEWS)
def order_of_support_nodes_does_not_matter(subject: Subject, peer: bool) -> None:
    """The support is a set."""
    learner, episode = subject.build(), exam()
    order = torch.tensor([4, 8, 0, 2, 6, 1, 7, 3, 5])
    shuffled = replace(episode, support=episode.support[order], support_labels=episode.support_labels[order])
    expected = subject.logits(learner, episode, peer=peer)
    expect_close(subject.logits(learner, shuffled, peer=peer), expected, "scores of a shuffled support", **CLOSE)


@PROMISES.check(peer=VIEWS)
def names_of_classes_do_not_matter(subject: Subject, peer: bool) -> None:
    """Other numbers for the classes of an episode exchange the columns of its scores."""
    learner, episode = subject.build(), exam()
    new = torch.tensor([2, 0, 1])
    renamed = replace(
        episode,
        classes=episode.classes[new.argsort()],
        support_labels=new[episode.support_labels],
        query_labels=new[episode.query_labels],
    )
    expected = subject.logits(learner, episode, peer=peer)
    expect_close(subject.logits(learner, renamed, peer=peer)[:, new], expected, "scores of renamed classes", **CLOSE)


@PROMISES.check()
def labels_that_are_not_given_are_not_read(subject: Subject) -> None:
    """Neither those of the queries nor those of the graph touch the scores."""
    learner, episode = subject.build(), exam()
    blind = replace(episode, query_labels=torch.zeros_like(episode.query_labels))
    unlabelled = data().graph.replaced(labels=torch.full_like(data().graph.labels, -1))
    expected = subject.logits(learner, episode)
    expect_same(subject.logits(learner, blind, unlabelled), expected, "the scores without those labels")


@PROMISES.check(applies=_keeps_queries_apart, peer=VIEWS)
def queries_do_not_influence_each_other(subject: Subject, peer: bool) -> None:
    """Each query is scored as if it were alone."""
    learner, episode = subject.build(), exam()
    kept = torch.tensor([1, 5, 6, 11])
    fewer = replace(episode, query=episode.query[kept], query_labels=episode.query_labels[kept])
    expected = subject.logits(learner, episode, peer=peer)[kept]
    expect_close(subject.logits(learner, fewer, peer=peer), expected, "scores of queries without the others", **CLOSE)


@PROMISES.check(applies=_keeps_queries_apart)
def support_and_query_never_meet(subject: Subject) -> None:
    """Without the graph, NaN in one query stays in the scores of that query."""
    learner, episode = subject.build(), exam()
    logits = subject.logits(learner, episode, poisoned(data().graph, episode.query[5:6]), peer=True)
    touched = (~logits.isfinite()).any(-1).nonzero().squeeze(-1).tolist()
    expect(touched == [5], f"NaN in query 5 should spoil its own scores alone (got queries {touched})")


@PROMISES.check()
def classes_may_differ_in_support(subject: Subject) -> None:
    """One support node of a class and three of the others make an episode too."""
    learner, episode = subject.build(), exam()
    kept = torch.tensor([0, 1, 2, 3, 6, 7, 8])
    uneven = replace(episode, support=episode.support[kept], support_labels=episode.support_labels[kept])
    logits = subject.logits(learner, uneven)
    expect(logits.shape == (len(episode.query), episode.n_way), f"scores have shape {tuple(logits.shape)}")
    expect(logits.isfinite().all(), "scores of an uneven support should be finite")


@PROMISES.check()
def a_class_without_support_is_refused(subject: Subject) -> None:
    """The message says what is missing."""
    learner, episode = subject.build(), exam()
    empty = replace(episode, support=episode.support[:6], support_labels=episode.support_labels[:6])
    expect_error(ValueError, "support node for every class", lambda: subject.logits(learner, empty))


@PROMISES.check()
def episodes_may_have_another_number_of_classes(subject: Subject) -> None:
    """What was trained on three classes tells two apart."""
    learner, episode = subject.build(), exam()
    two = Episode(
        episode.classes[:2],
        episode.support[:6],
        episode.support_labels[:6],
        episode.query[:8],
        episode.query_labels[:8],
    )
    logits = subject.logits(learner, two)
    expect(logits.shape == (8, 2), f"scores of 8 queries in 2 classes have shape {tuple(logits.shape)}")
    expect(logits.isfinite().all(), "scores of 2 classes should be finite")


@PROMISES.check()
def a_batch_of_episodes_gives_the_scores_of_each(subject: Subject) -> None:
    """At once or one by one; and nodes may be represented once for all episodes."""
    learner, graph, episodes = subject.build(), data().graph, list(bank())
    expected = torch.stack([subject.logits(learner, episode) for episode in episodes])
    with evaluating(learner):
        fields = [learner.field(graph, e.nodes, peer=not learner.tests_on_edges) for e in episodes]
        expect_close(torch.stack(learner.score_all(fields, episodes)), expected, "scores of score_all", **CLOSE)
        if not learner.adapts:
            rows = learner.represent(
                learner.field(graph, torch.arange(graph.num_nodes), peer=not learner.tests_on_edges)
            )
            support, query = (tuple(row[nodes] for row in rows) for nodes in (bank().support, bank().query))
            batch = learner.logits(support, bank().support_labels, query, bank().n_way)
            expect_close(batch, expected, "scores of a batch", **CLOSE)


@PROMISES.check(queries=QUERIES)
def a_bank_counts_what_each_episode_has_right(subject: Subject, queries: str) -> None:
    """Repeated nodes, which fill up episodes with fewer queries, neither count nor change anything."""
    learner, episodes = subject.build(), bank(queries)
    found = BankScorer(data().graph, episodes).correct(learner)
    one_by_one = [int((subject.logits(learner, e).argmax(-1) == e.query_labels).sum()) for e in episodes]
    expect(found.tolist() == one_by_one, f"right answers are {found.tolist()}, and one by one {one_by_one}")


@PROMISES.check()
def scoring_leaves_no_trace(subject: Subject) -> None:
    """Mode, weights, buffers, gradients and the random state stay, and scores do not depend on that state."""
    learner = subject.build()
    subject.loss(learner, subject.lesson(learner)).mean().backward()  # type: ignore[no-untyped-call]
    before, scored = _state(learner), []
    for seed in (3, 4):
        torch.manual_seed(seed)
        random_state = torch.get_rng_state()
        scored.append(subject.logits(learner, exam()))
        BankScorer(data().graph, bank().head(3)).score(learner)
        expect_same(torch.get_rng_state(), random_state, "the global random state")
    expect_same(_state(learner), before, "the learner, after scoring,")
    expect_same(scored[1], scored[0], "scores, when the global generator is seeded otherwise,")


@PROMISES.check()
def weights_alone_decide(subject: Subject) -> None:
    """Another learner that loads the weights of a trained one gives its scores."""
    learner, other = subject.build(), subject.build(seed=6)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.02)
    for _ in range(3):
        optimizer.zero_grad()
        subject.loss(learner, subject.lesson(learner)).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    other.load_state_dict(learner.state_dict())
    expect_same(subject.logits(other, exam()), subject.logits(learner, exam()), "scores of the loaded weights")


@PROMISES.check(dtype=(torch.float32, torch.float64))
def scores_have_the_precision_of_the_graph(subject: Subject, dtype: torch.dtype) -> None:
    """And both precisions agree."""
    found = subject.logits(subject.build(dtype=dtype), exam(), data(dtype).graph)
    expect(found.dtype == dtype, f"scores should be {dtype} (got {found.dtype})")
    expected = subject.logits(subject.build(), exam())
    expect_close(found.double(), expected, f"scores in {dtype}", rtol=1e-2, atol=1e-2 * float(expected.abs().max()))


def _state(learner: Any) -> dict[str, Any]:
    modes: dict[str, bool] = {name: module.training for name, module in learner.named_modules()}
    grads: dict[str, Tensor | None] = {
        name: None if p.grad is None else p.grad.clone() for name, p in learner.named_parameters()
    }
    return {"mode": modes, "values": values(learner), "grad": grads}
