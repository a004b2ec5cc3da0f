"""One minute on a graph and an encoder: which optimizers can be used, what they cost, and what speaks for which."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from fgsam.advice.homophily import Homophily, homophily
from fgsam.advice.page import page_of
from fgsam.advice.probe import Gradients, Losses, Nodes, Probes, initial_model, train_probes
from fgsam.advice.rules import Finding, findings_of
from fgsam.advice.timing import MOST_ROUNDS, Times, time_steps
from fgsam.checks import check_positive
from fgsam.engine.arguments import config_of_call
from fgsam.engine.build import Entries, build_encoder
from fgsam.engine.config import RunConfig, load_config
from fgsam.engine.data import prepared, usable_graph
from fgsam.engine.seeding import seeded
from fgsam.graph.graph import Graph
from fgsam.nn.encoders import Encoder
from fgsam.nn.peer import PeerReport, peer_report

BATCH_SIZE = 256
NUM_STEPS = 200

MEANT = ("encoder.", "dataset.", "run.device=", "run.dtype=", "train.allow_inexact=")
"""Beginnings of settings that advice takes."""

SHARE_OF_TIMING, SHARE_OF_TRAINING = 0.3, 0.9
"""When timing and training end at the latest, in shares of the time that is given."""


@dataclass(frozen=True)
class Advice:
    """What was found on a graph with an encoder.

    Attributes:
        graph: Name and sizes of the graph.
        encoder: Name, reach and number of parameters of the encoder.
        batch: Training nodes in a step, and what their field holds.
        peer: Layers of the encoder and what becomes of them in the peer.
        times: Passes and steps of every optimizer.
        gradients: How the peer gradient lies to the GNN gradient; None without a peer.
        homophily: Agreement of labels along edges.
        probes: Accuracies after a short training.
        findings: What follows, the first that favours an optimizer decides.
        suggestion: That optimizer.
        notes: What the time did not suffice for.
        seconds: How long all of it took.
    """

    graph: dict[str, Any]
    encoder: dict[str, Any]
    batch: dict[str, int]
    peer: PeerReport
    times: Times
    gradients: Gradients | None
    homophily: Homophily
    probes: Probes
    findings: tuple[Finding, ...]
    suggestion: str
    notes: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        """Lay everything out on one page."""
        return page_of(self)


def advise(graph: Any = None, *, encoder: Any = "gcn", seconds: float = 60.0, **options: Any) -> Advice:
    """Measure for a minute what speaks for which optimizer.

    Half of the labelled nodes are learned from in batches of 256, with a linear head and Adam, once with the graph and
    once without; everything but the times is the same in every call that has the time to finish.

    Args:
        graph: A name, the path of an npz file, a mapping of options, or a ``Graph``.
        encoder: A name, a mapping with ``name`` and options, a class or function, or a module.
        seconds: How long to measure, more than 0; when time is up, what is left is shortened.
        **options: Options of encoder and graph, as ``fgsam.run`` takes them.

    Raises:
        ValueError: If something is unknown or out of range, the graph has no labels or features, or a module cannot
            be used as an encoder. A module without a peer is a finding.
        FileNotFoundError: If the files of the graph are missing.
    """
    config, objects = config_of_call(graph, encoder=encoder, options=options)
    return advise_config(config, objects, seconds=seconds)


def advise_config(config: RunConfig, objects: Mapping[str, Any] | None = None, *, seconds: float = 60.0) -> Advice:
    """Do what ``advise`` does, for the graph and the encoder of a config.

    Args:
        config: Names graph and encoder; what it says of methods, optimizers and training does not matter.
        objects: What stands for the entries ``graph`` and ``encoder``.
        seconds: How long to measure, more than 0.
    """
    check_positive(seconds=seconds)
    start = time.perf_counter()
    given = dict(objects or {})
    graph = prepared(config, usable_graph(config, given.get("graph")))
    nodes = Nodes.of(graph, BATCH_SIZE)
    with _one_thread(), seeded(graph.device, "advice encoder"):
        encoder = build_encoder(config, graph, Entries.load(config, encoder=given.get("encoder")))
        model = initial_model(encoder, graph)
        peer = peer_report(encoder, graph.num_features)
        has_peer = peer.is_defined or (not peer.undefined and getattr(encoder, "allow_inexact", False))
        losses = Losses(model, graph, nodes)
        batch = losses.field_sizes()
        left = start + SHARE_OF_TIMING * seconds - time.perf_counter()
        times = time_steps(losses, nodes.batch_size, has_peer=has_peer, seconds=max(left, 0.0))
        gradients, probes = train_probes(
            losses, graph, nodes, has_peer=has_peer, num_steps=NUM_STEPS, deadline=start + SHARE_OF_TRAINING * seconds
        )
    findings = findings_of(
        peer, has_peer=has_peer, num_hops=encoder.num_hops, times=times, gradients=gradients, probes=probes
    )
    return Advice(
        graph=_facts(graph),
        encoder=_encoder_facts(config, encoder),
        batch=batch,
        peer=peer,
        times=times,
        gradients=gradients,
        homophily=homophily(graph),
        probes=probes,
        findings=findings,
        suggestion=next(finding.favours for finding in findings if finding.favours is not None),
        notes=tuple(_notes(times, probes, seconds)),
        seconds=time.perf_counter() - start,
    )


def config_of_texts(graph: str, encoder: str, settings: Sequence[str]) -> RunConfig:
    """Make the config of a command line.

    Args:
        graph: A name, or the path of an npz file.
        encoder: A name, or ``package.module:Class``.
        settings: Texts ``section.key=value``, values in YAML.

    Raises:
        ValueError: If something is unknown or out of range, or a setting has no meaning here.
    """
    idle = [text for text in settings if not text.startswith(MEANT)]
    if idle:
        raise ValueError(
            f"Expected settings of the encoder or the graph (got '{idle[0]}'). Write encoder.hidden=64 or "
            "dataset.features=degree; methods, optimizers and training are not part of advice."
        )
    dataset = {"path" if graph.endswith(".npz") else "name": graph}
    return load_config(overrides=settings, values={"dataset": dataset, "encoder": {"name": encoder}})


def _facts(graph: Graph) -> dict[str, Any]:
    sizes = {name: getattr(graph, name) for name in ("num_nodes", "num_edges", "num_features", "num_classes")}
    return {"name": graph.name, **sizes, "num_labelled": int((graph.labels >= 0).sum())}


def _encoder_facts(config: RunConfig, encoder: Encoder) -> dict[str, Any]:
    size = sum(param.numel() for param in encoder.parameters())
    return {"name": config.encoder.name, "num_hops": encoder.num_hops, "dim": encoder.dim, "num_parameters": size}


def _notes(times: Times, probes: Probes, seconds: float) -> Iterator[str]:
    if times.of("adam").measured is None:
        yield f"A pass takes so long that no step was measured in {seconds:g} s: step times are predictions only."
    if times.num_rounds < MOST_ROUNDS:
        yield f"Times are medians of {times.num_rounds} instead of {MOST_ROUNDS} rounds."
    if probes.num_steps < NUM_STEPS:
        yield f"Training stopped after {probes.num_steps} of {NUM_STEPS} steps: cosines and accuracies are early ones."


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
