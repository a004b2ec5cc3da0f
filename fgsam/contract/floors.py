"""What a learner without training promises."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from fgsam.contract.check import Promises
from fgsam.contract.learner import QUERIES, Subject, bank, data, exam, renumbered
from fgsam.contract.subject import expect, expect_error, expect_same
from fgsam.engine.evaluate import floor_correct
from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.episode import Episode
from fgsam.graph.graph import Graph

PROMISES = Promises()


@PROMISES.check()
def it_answers_only_after_it_was_fitted(subject: Subject) -> None:
    """The message says what to call."""
    expect_error(RuntimeError, "Call fit(graph, val_bank) first", lambda: _made(subject).score(bank()))


@PROMISES.check()
def its_choice_is_reported_in_plain_values(subject: Subject) -> None:
    """The setting, its accuracy on validation episodes, and what each candidate reached."""
    report = _made(subject).fit(data().graph, bank())
    expect({"setting", "val_accuracy", "candidates"} <= report.keys(), f"the report holds {sorted(report)} only")
    expect(0 <= report["val_accuracy"] <= 1, "'val_accuracy' should be a share")
    expect(report["setting"] in [row["setting"] for row in report["candidates"]], "the choice should be a candidate")
    expect(json.loads(json.dumps(report)) == report, "the report should consist of plain values")


@PROMISES.check()
def it_beats_chance(subject: Subject) -> None:
    """On a graph whose neighbours and words tell the classes apart."""
    found = float(_fitted(subject).score(bank()).mean())
    expect(found > 1.2 / bank().n_way, f"its accuracy is {found:.3f} on {bank().n_way} classes")


@PROMISES.check(queries=QUERIES)
def a_batch_gives_the_answers_of_each_episode(subject: Subject, queries: str) -> None:
    """Repeated nodes, which fill up episodes with fewer queries, neither count nor change anything."""
    floor, episodes = _fitted(subject), bank(queries)
    one_by_one = [int((_answers(floor, e) == e.query_labels).sum()) for e in episodes]
    expect(floor_correct(floor, episodes).tolist() == one_by_one, "episodes are answered otherwise in a batch")


@PROMISES.check()
def numbers_of_nodes_do_not_matter(subject: Subject) -> None:
    """A graph whose nodes are numbered otherwise gives the same accuracies."""
    graph, place = renumbered(data().graph)
    episodes = EpisodeBank(bank().classes, place[bank().support], place[bank().query])
    found = _fitted(subject, graph, episodes).score(episodes)
    expect_same(found, _fitted(subject).score(bank()), "the accuracy of each episode after a renumbering of the nodes")


@PROMISES.check()
def order_of_support_nodes_does_not_matter(subject: Subject) -> None:
    """The support is a set."""
    floor, episode = _fitted(subject), exam()
    order = torch.tensor([4, 8, 0, 2, 6, 1, 7, 3, 5])
    found = floor.predict(episode.support[order], episode.support_labels[order], episode.query, episode.n_way)
    expect_same(found, _answers(floor, episode), "answers of a shuffled support")


@PROMISES.check()
def names_of_classes_do_not_matter(subject: Subject) -> None:
    """Other numbers for the classes give the same answers under these numbers."""
    floor, episode = _fitted(subject), exam()
    new = torch.tensor([2, 0, 1])
    found = floor.predict(episode.support, new[episode.support_labels], episode.query, episode.n_way)
    expect_same(found, new[_answers(floor, episode)], "answers in renamed classes")


@PROMISES.check(applies=lambda subject: not subject.uses_queries)
def queries_do_not_influence_each_other(subject: Subject) -> None:
    """Each query is answered as if it were alone."""
    floor, episode = _fitted(subject), exam()
    kept = torch.tensor([1, 5, 6, 11])
    found = floor.predict(episode.support, episode.support_labels, episode.query[kept], episode.n_way)
    expect_same(found, _answers(floor, episode)[kept], "answers to queries without the others")


@PROMISES.check()
def a_class_without_support_is_refused(subject: Subject) -> None:
    """The message says what is missing."""
    floor, episode = _fitted(subject), exam()

    def answer() -> Tensor:
        found: Tensor = floor.predict(episode.support[:6], episode.support_labels[:6], episode.query, episode.n_way)
        return found

    expect_error(ValueError, "support node for every class", answer)


@PROMISES.check()
def labels_of_the_graph_are_not_read(subject: Subject) -> None:
    """Neither for choosing a setting nor for answers."""
    unlabelled = data().graph.replaced(labels=torch.full_like(data().graph.labels, -1))
    blind, seeing = _made(subject), _made(subject)
    same = blind.fit(unlabelled, bank()) == seeing.fit(data().graph, bank())
    expect(same, "without labels of the graph the choice is another one")
    expect_same(_answers(blind, exam()), _answers(seeing, exam()), "answers without labels of the graph")


def _made(subject: Subject) -> Any:
    return subject.method(**subject.options)


def _fitted(subject: Subject, graph: Graph | None = None, episodes: EpisodeBank | None = None) -> Any:
    floor = _made(subject)
    floor.fit(graph or data().graph, episodes or bank())
    return floor


def _answers(floor: Any, episode: Episode) -> Tensor:
    found: Tensor = floor.predict(episode.support, episode.support_labels, episode.query, episode.n_way)
    return found
