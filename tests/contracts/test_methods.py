"""Promises that every registered learner keeps; ``fgsam.testing`` has them for users' own classes too."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import torch
from torch import nn

from fgsam.contract import scores
from fgsam.contract.check import Check
from fgsam.contract.learner import Subject, bank, data, exam
from fgsam.engine.options import read_options
from fgsam.methods.floors import SGCPrototype
from fgsam.methods.protonet import ProtoNet
from fgsam.registry import METHODS, OPTIMIZERS
from fgsam.testing import _chosen, check_method, checks_of, main

OTHERWISE = {
    "amm_gnn-variant=tlp": ("order_of_support_nodes", "queries_do_not_influence"),
    **dict.fromkeys(
        [f"{name}-scaling=min_max" for name in ("linear_probe", "fine_tune", "tlp", "ceiling")],
        ("order_of_support_nodes",),
    ),
}
"""What a form that is not the default does not promise: the draw of the released AMM-GNN takes nodes of the episode in
their order; with columns scaled by the support the tolerance of the regression shows."""


def other_forms() -> Iterator[Any]:
    """Each learner with each value of an option of choices, of which the checks above take the default."""
    for name in sorted(METHODS):
        method = METHODS.load(name)
        for option in (
            read_options(method, getattr(method, "num_given", 0)).entries.values() if method.is_trained else ()
        ):
            for choice in get_args(option.annotation):
                if isinstance(choice, str) and choice != option.default:
                    yield pytest.param(method, {option.name: choice}, id=f"{name}-{option.name}={choice}")


def promises() -> Iterator[Any]:
    """Each entry of the registry with each check."""
    for name in sorted(METHODS):
        try:
            checks = checks_of(Subject(METHODS.load(name)))
        except Exception as error:  # one entry that cannot even be loaded must not hide the others
            checks = [Check("can_be_loaded", lambda subject, error=error: pytest.fail(repr(error)))]
        for check in checks:
            yield pytest.param(name, check, id=f"{name}-{check.name}")


@pytest.mark.parametrize(("name", "check"), list(promises()))
def test_entry_keeps_its_promise(name: str, check: Check):
    check(Subject(METHODS.load(name)))


@pytest.mark.parametrize(("method", "options"), list(other_forms()))
def test_other_forms_score_as_promised(method: type[Any], options: dict[str, Any], request: pytest.FixtureRequest):
    subject, excepted = Subject(method, options), OTHERWISE.get(request.node.callspec.id, ())
    broken = []
    for check in scores.PROMISES.of(subject):
        try:
            check(subject)
        except AssertionError:
            broken.append(check.name)
    assert all(name.startswith(tuple(excepted) or "-") for name in broken), broken
    assert all(any(name.startswith(known) for name in broken) for known in excepted), "an exception that is none"


def test_the_graph_of_the_checks_has_the_nodes_that_are_hard():
    graph, episode = data().graph, exam()
    assert {0, 1} <= set(graph.degree[episode.support].tolist())
    assert 0 in graph.degree[bank().query]
    assert (bank("uneven").query_counts == 0).any()
    assert (bank("all").query_labels == -1).any()
    assert len(episode.nodes.unique()) == len(episode.nodes)


# Each class below breaks one promise, and the checks must say which.


class WithoutWords(ProtoNet):
    """Has an option that nothing describes.

    Args:
        make_encoder: Makes the encoder.
    """

    def __init__(self, make_encoder, *, power: float = 1.0) -> None:
        super().__init__(make_encoder)


class Averages(ProtoNet):
    def loss(self, field, episode):
        return super().loss(field, episode).mean()


class HasAnIdleWeight(ProtoNet):
    def __init__(self, make_encoder) -> None:
        super().__init__(make_encoder)
        self.idle = nn.Parameter(torch.ones(2))


class NeverLearns(ProtoNet):
    def loss(self, field, episode):
        return super().loss(field, episode).detach() + 0 * self.encoder.layers[0].bias.sum()


class PeersAtTheGraph(ProtoNet):
    def field(self, graph, nodes, *, peer=False):
        return super().field(graph, nodes)


class Counts(ProtoNet):
    made = itertools.count(1)

    def __init__(self, make_encoder) -> None:
        super().__init__(make_encoder)
        self.scale = next(self.made)

    def loss(self, field, episode):
        return self.scale * super().loss(field, episode)


class KnowsItsEncoder(ProtoNet):
    def represent(self, field):
        return (self.encoder(field) + self.encoder.layers[0].bias.sum(),)


class ReadsNumbers(ProtoNet):
    def represent(self, field):
        return (self.encoder(field) + field.node_ids[: field.num_targets, None] / 100,)


class TakesTheFirst(ProtoNet):
    def logits(self, support, support_labels, query, n_way):
        rank = torch.linspace(0, 1, support[0].shape[-2], dtype=support[0].dtype)
        return super().logits((support[0] * rank[:, None],), support_labels, query, n_way)


class PrefersTheFirstClass(ProtoNet):
    def logits(self, support, support_labels, query, n_way):
        return super().logits(support, support_labels, query, n_way) - torch.arange(n_way)


class Cheats(ProtoNet):
    def score(self, field, episode):
        return super().score(field, episode) + nn.functional.one_hot(episode.query_labels, episode.n_way)


class ReadsLabelsOfTheGraph(ProtoNet):
    def represent(self, field):
        return (self.encoder(field) + field.of_nodes(field._graph.labels)[: field.num_targets, None],)


class Centres(ProtoNet):
    def logits(self, support, support_labels, query, n_way):
        centred = query[0] - query[0].mean(-2, keepdim=True)
        return super().logits(support, support_labels, (centred,), n_way)


class CountsTheFilling(Centres):
    uses_queries = True

    def logits(self, support, support_labels, query, n_way, *, is_query=None):
        return super().logits(support, support_labels, query, n_way)


class WantsEqualClasses(ProtoNet):
    def logits(self, support, support_labels, query, n_way):
        shape = (n_way, -1, support[0].shape[-1])
        support[0][support_labels.argsort()].reshape(shape)
        return super().logits(support, support_labels, query, n_way)


class ForgivesEmptyClasses(ProtoNet):
    def logits(self, support, support_labels, query, n_way):
        members = (support_labels == torch.arange(n_way)[:, None]).to(support[0].dtype)
        prototypes = members @ support[0] / members.sum(-1, keepdim=True).clamp(min=1)
        return query[0] @ prototypes.mT


class WantsThreeClasses(ProtoNet):
    def logits(self, support, support_labels, query, n_way):
        return super().logits(support, support_labels, query, n_way) + torch.zeros(3)


class ScalesTheBatch(ProtoNet):
    def logits(self, support, support_labels, query, n_way):
        logits = super().logits(support, support_labels, query, n_way)
        return logits / logits.abs().max().clamp(max=1e9)


class TurnsRound(ProtoNet):
    def score_all(self, fields, episodes):
        return super().score_all(fields, episodes)[::-1]


class AlwaysDrops(ProtoNet):
    def represent(self, field):
        return (nn.functional.dropout(self.encoder(field), training=True),)


class SwitchesTheMode(ProtoNet):
    def represent(self, field):
        self.encoder.train()
        return super().represent(field)


class KeepsGradients(ProtoNet):
    def represent(self, field):
        with torch.enable_grad():
            self.encoder(field).sum().backward()
        return super().represent(field)


class Remembers(ProtoNet):
    num_losses = 1

    def loss(self, field, episode):
        self.num_losses += 1
        return super().loss(field, episode)

    def logits(self, support, support_labels, query, n_way):
        return super().logits(support, support_labels, query, n_way) * self.num_losses


class Rounds(ProtoNet):
    def represent(self, field):
        return (self.encoder(field).float(),)


class TellsAfterwards(SGCPrototype):
    def score(self, bank):
        return torch.ones(len(bank)) if self._setting is None else super().score(bank)


class ReportsTensors(SGCPrototype):
    def fit(self, graph, val_bank):
        report = super().fit(graph, val_bank)
        return {**report, "val_accuracy": torch.tensor(report["val_accuracy"])}


class Guesses(SGCPrototype):
    def predict(self, support, support_labels, query, n_way, **options):
        return torch.zeros_like(query)


class VotesInTheBatch(SGCPrototype):
    def predict(self, support, support_labels, query, n_way, **options):
        return super().predict(support, support_labels, query, n_way, **options).flip(0)


class AnswersByNumber(SGCPrototype):
    def predict(self, support, support_labels, query, n_way, **options):
        return (super().predict(support, support_labels, query, n_way, **options) + query) % n_way


class AnswersLikeTheFirst(SGCPrototype):
    def predict(self, support, support_labels, query, n_way, **options):
        found = super().predict(support, support_labels, query, n_way, **options)
        return (found + support_labels[..., :1]) % n_way


class AnswersUpwards(SGCPrototype):
    def predict(self, support, support_labels, query, n_way, **options):
        return (super().predict(support, support_labels, query, n_way, **options) + 1) % n_way * 0 + 1


class AnswersInTurn(SGCPrototype):
    def predict(self, support, support_labels, query, n_way, **options):
        return (
            super().predict(support, support_labels, query, n_way, **options) + torch.arange(query.shape[-1])
        ) % n_way


class ExpectsNoSupport(SGCPrototype):
    def predict(self, support, support_labels, query, n_way, **options):
        return super().predict(support, support_labels, query, int(support_labels.max()) + 1, **options)


class LooksAtLabels(SGCPrototype):
    def fit(self, graph, val_bank):
        return {**super().fit(graph, val_bank), "num_classes": graph.num_classes}


@pytest.mark.parametrize(
    ("method", "promise"),
    [
        (WithoutWords, "what_the_engine_asks_is_declared"),
        (Averages, "loss_is_one_finite_value_a_target"),
        (Averages, r"every_kind_of_optimizer_trains_it[esam]"),
        (HasAnIdleWeight, "every_weight_gets_a_finite_gradient"),
        (NeverLearns, "a_few_steps_lower_the_loss"),
        (PeersAtTheGraph, "the_peer_reads_the_rows_it_was_given"),
        (Counts, "same_seed_same_bits"),
        (KnowsItsEncoder, "a_module_of_pytorch_geometric_is_an_encoder"),
        (ReadsNumbers, "numbers_of_nodes_do_not_matter"),
        (TakesTheFirst, "order_of_support_nodes_does_not_matter"),
        (PrefersTheFirstClass, "names_of_classes_do_not_matter"),
        (Cheats, "labels_that_are_not_given_are_not_read"),
        (ReadsLabelsOfTheGraph, "labels_that_are_not_given_are_not_read"),
        (Centres, "queries_do_not_influence_each_other"),
        (Centres, "support_and_query_never_meet"),
        (CountsTheFilling, "a_bank_counts_what_each_episode_has_right"),
        (WantsEqualClasses, "classes_may_differ_in_support"),
        (ForgivesEmptyClasses, "a_class_without_support_is_refused"),
        (WantsThreeClasses, "episodes_may_have_another_number_of_classes"),
        (ScalesTheBatch, "a_batch_of_episodes_gives_the_scores_of_each"),
        (TurnsRound, "a_batch_of_episodes_gives_the_scores_of_each"),
        (AlwaysDrops, "scoring_leaves_no_trace"),
        (SwitchesTheMode, "scoring_leaves_no_trace"),
        (KeepsGradients, "scoring_leaves_no_trace"),
        (Remembers, "weights_alone_decide"),
        (Rounds, "scores_have_the_precision_of_the_graph"),
        (TellsAfterwards, "it_answers_only_after_it_was_fitted"),
        (ReportsTensors, "its_choice_is_reported_in_plain_values"),
        (Guesses, "it_beats_chance"),
        (VotesInTheBatch, "a_batch_gives_the_answers_of_each_episode"),
        (AnswersByNumber, "numbers_of_nodes_do_not_matter"),
        (AnswersLikeTheFirst, "order_of_support_nodes_does_not_matter"),
        (AnswersUpwards, "names_of_classes_do_not_matter"),
        (AnswersInTurn, "queries_do_not_influence_each_other"),
        (ExpectsNoSupport, "a_class_without_support_is_refused"),
        (LooksAtLabels, "labels_of_the_graph_are_not_read"),
    ],
)
def test_a_broken_promise_is_found(method: type[Any], promise: str):
    name = promise.partition("[")[0]
    with pytest.raises(AssertionError, match=rf"(?s){method.__name__} breaks .*{name}"):
        check_method(method, only=promise)


def test_every_promise_has_a_class_that_breaks_it():
    (marks,) = (mark for mark in test_a_broken_promise_is_found.pytestmark if mark.name == "parametrize")
    broken = {promise.partition("[")[0] for _, promise in marks.args[1]}
    subjects = Subject(ProtoNet), Subject(SGCPrototype)
    assert {check.name.partition("[")[0] for subject in subjects for check in checks_of(subject)} == broken


def test_a_learner_may_use_all_queries_where_it_says_so():
    names = {check.name.partition("[")[0] for check in checks_of(Subject(CountsTheFilling))}
    assert not names & {"queries_do_not_influence_each_other", "support_and_query_never_meet"}
    assert "order_of_support_nodes_does_not_matter" in names


def test_the_number_of_checks_is_printed(capsys: pytest.CaptureFixture[str]):
    assert main(["sgc_prototype", f"{__name__}:AnswersInTurn"]) == 1
    printed = capsys.readouterr().out
    assert f"{len(checks_of(Subject(SGCPrototype)))} passed" in printed
    assert f"breaks 2 of {len(checks_of(Subject(SGCPrototype)))}" in printed
    assert "queries_do_not_influence_each_other: answers to queries without the others changed" in printed


def test_the_entries_of_a_kind_are_chosen_by_its_name(capsys: pytest.CaptureFixture[str]):
    kinds = _chosen(["methods", "sgd", f"{__name__}:Cheats"])
    assert set(kinds["method"]) == {*METHODS, f"{__name__}:Cheats"}
    assert set(kinds["optimizer"]) == {"sgd"}
    assert set(_chosen(["optimizers"])["optimizer"]) == set(OPTIMIZERS)
    assert main(["methodz"]) == 2
    assert "Expected a known" in capsys.readouterr().err
