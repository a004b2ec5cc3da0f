"""Task-adaptive few-shot node classification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, NoReturn, cast, get_args

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgsam.checks import check_choice, check_count, check_positive
from fgsam.episodes.episode import Episode
from fgsam.functional.distances import directions
from fgsam.functional.logistic import logistic_logits
from fgsam.functional.prototypes import class_prototypes
from fgsam.graph.ego import EgoSets
from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.graph.normalise import normalised
from fgsam.graph.sparse import SparseMatrix
from fgsam.methods.base import Method, divided
from fgsam.nn.encoders import Encoder, field_of
from fgsam.nn.layers import Affine
from fgsam.typing import EdgeKind

if TYPE_CHECKING:
    from fgsam.typing import NodeIds

Variant = Literal["mended", "released"]

CLASS_HOPS, QUERY_HOPS = 1, 2
"""How far the ego graph of a class, and that of a query node, reaches."""


class TENT(Method):
    """Compares small graphs around classes and query nodes, by a graph network that is made for each class.

    1. *Nodes.* The encoder embeds every node that is needed. The ego graph of a class holds the nodes at most one hop
       from its support nodes, and a virtual node, their mean embedding, which is linked to all of them. The ego graph
       of a query node holds the nodes at most two hops away. Weights are ``D^-1 (A + I)`` within an ego graph.
    2. *Classes.* A linear generator turns the virtual node of class ``c`` into a scale and a shift of every weight of a
       graph network of two layers, ReLU between them: ``W_c = W * (1 + scale_c) + shift_c``.
    3. *Task.* With the network of class ``c``, ``q_c`` is the mean of a query's ego graph, and ``v_c`` the virtual node
       in that of the class; the logit is ``cos(q_c, v_c) / temperature``.

    The loss of a query is its cross-entropy, plus that of a linear classifier of the training classes on the embedding
    of the query and on those of the support nodes, weighed so that the mean over queries adds the mean over all nodes
    of the episode. It is left out where a class of the episode is none of the training classes.

    In the peer's view an ego graph is its own node alone, of a class the virtual one; only rows of support and query
    nodes are read. So it is with edges where the encoder reads none, as an MLP. Two hops from a query node may be most
    of a dense graph, which costs accordingly.

    ``variant="released"`` is the form of the public code, as far as its departures change figures: the virtual node is
    linked to nobody, so that the ego graph of a class plays no part; one network serves the task, made for the mean of
    its virtual nodes; weights are those of the full graph, cut out; and scores are those of a logistic regression on
    embeddings of length 1, into which nothing of steps 1 to 3 enters. Its temperatures of classes cancel, in both
    forms they are left out; so is its relabelling, which merges classes. Other differences, of both forms: the public
    code classifies all nodes of the training classes in every episode, not those of the episode; its encoder is one
    graph convolution of width 16, here the one that is asked for; weights begin as in every encoder here.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.
        classes: Class ids of training, ascending.
        hidden: Width of both layers of the graph network.
        temperature: Divides the cosines, positive.
        variant: ``"mended"`` or ``"released"``.

    Raises:
        ValueError: If an option is out of range.

    Source:
        Wang et al., Task-Adaptive Few-shot Node Classification, 2022, and its public code; the equations of the paper
        were not at hand: this is what the code has after its faults are mended.
    """

    adapts: ClassVar[bool] = True
    num_given: ClassVar[int] = 2
    classes: Tensor

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        classes: Sequence[int],
        *,
        hidden: int = 16,
        temperature: float = 0.5,
        variant: Variant = "mended",
    ) -> None:
        super().__init__(make_encoder)
        check_count(hidden=hidden)
        check_positive(temperature=temperature)
        check_choice(get_args(Variant), variant=variant)
        self.temperature = temperature
        self.variant = variant
        dim = cast(Encoder, self.encoder).dim
        self.first, self.second = Affine(dim, hidden), Affine(hidden, hidden)
        self.generator = nn.Linear(dim, 2 * sum(part.numel() for part in self._shared()))
        self.classifier = nn.Linear(dim, len(classes))
        self.register_buffer("classes", torch.tensor(classes), persistent=False)

    def field(self, graph: Graph, nodes: NodeIds, *, peer: bool = False) -> Field:
        """Build the field whose targets are some nodes, and behind them all nodes of their ego graphs."""
        targets = nodes if peer else graph.field(nodes, QUERY_HOPS).node_ids
        return field_of(cast(Encoder, self.encoder), graph, targets, peer=peer)

    def logits(
        self, support: tuple[Tensor, ...], support_labels: Tensor, query: tuple[Tensor, ...], n_way: int
    ) -> NoReturn:
        """Refuse: what is known of single nodes does not tell their ego graphs.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            "Expected the field of an episode, which holds its ego graphs (got representations of nodes). "
            "Call score(field, episode)."
        )

    def score(self, field: Field, episode: Episode) -> Tensor:
        """Score the query nodes of one episode.

        Args:
            field: Made by :meth:`field` for ``episode.nodes``.
            episode: The labels of its support nodes count; those of its query nodes are not read.

        Returns:
            Logits, shape ``[num_query, n_way]``.

        Raises:
            ValueError: If the field is not that of the episode, or some class has no support node.
        """
        _check_start(field, episode)
        if self.variant == "mended":
            return self._compare(self.encoder(field), field, episode)
        rows = directions(self.encoder(field.head(len(episode.nodes))))
        support, query = divided(rows, episode.num_support)
        return logistic_logits(support, episode.support_labels, query, episode.n_way, cost=1.0).to(rows.dtype)

    def loss(self, field: Field, episode: Episode) -> Tensor:
        """Cross-entropy of each query node, and its part of that of the classifier.

        Args:
            field: Made by :meth:`field` for ``episode.nodes``.
            episode: The task that is learned.

        Returns:
            One loss for each query node, shape ``[num_query]``; their mean is the objective.

        Raises:
            ValueError: If the field is not that of the episode, or some class has no support node.
        """
        _check_start(field, episode)
        embeddings = self.encoder(field)
        losses = F.cross_entropy(self._compare(embeddings, field, episode), episode.query_labels, reduction="none")
        taught = torch.isin(episode.classes, self.classes)
        if not taught.all():
            return losses
        num_nodes = len(episode.nodes)
        labels = torch.cat([episode.support_labels, episode.query_labels])
        places = torch.searchsorted(self.classes, episode.classes)[labels]
        found = F.cross_entropy(self.classifier(embeddings[:num_nodes]), places, reduction="none")
        support, query = divided(found, episode.num_support)
        return losses + (support.sum() + len(query) * query) / num_nodes

    def _compare(self, embeddings: Tensor, field: Field, episode: Episode) -> Tensor:
        """Logits from the embeddings of all targets, shape ``[num_query, n_way]``."""
        n_way, labels, is_mended = episode.n_way, episode.support_labels, self.variant == "mended"
        virtual = class_prototypes(embeddings[: episode.num_support], labels, n_way)
        key = ("tent", is_mended, tuple(labels.tolist()))
        first, second = field.remember(key, lambda: _ego_graphs(field, episode, is_mended=is_mended))
        told = virtual if is_mended else virtual.mean(0, keepdim=True).expand_as(virtual)
        weight, bias, last_weight, last_bias = self._made_for(told)
        h = first.product(torch.cat([embeddings, virtual]))
        h = torch.relu(torch.einsum("rd,cdh->rch", h, weight) + bias)
        h = second.product(h.flatten(1)).view(-1, *bias.shape)
        h = torch.einsum("sch,chk->sck", h, last_weight) + last_bias
        of_class = h[:n_way].diagonal().T  # each class by the network that is made for it
        return (directions(h[n_way:]) * directions(of_class)).sum(-1) / self.temperature

    def _made_for(self, told: Tensor) -> list[Tensor]:
        """Weights and biases of both layers for each class, from one row a class."""
        parts = self._shared()
        scale, shift = self.generator(told).chunk(2, dim=-1)
        made = torch.cat([part.flatten() for part in parts]) * (1 + scale) + shift
        sizes = [part.numel() for part in parts]
        return [flat.view(-1, *part.shape) for flat, part in zip(made.split(sizes, dim=1), parts, strict=True)]

    def _shared(self) -> list[Tensor]:
        return [self.first.weight, self.first.bias, self.second.weight, self.second.bias]


def _ego_graphs(field: Field, episode: Episode, *, is_mended: bool) -> tuple[SparseMatrix, SparseMatrix]:
    """Weights of all ego graphs of an episode side by side: virtual nodes, then members around classes and queries.

    Returns:
        What the first layer sums for each node of a graph, from the embeddings of the targets and of the virtual nodes,
        shape ``[num_members, num_targets + n_way]``; what the second sums for each virtual node, and for the mean of
        each query's graph, shape ``[n_way + num_query, num_members]``.
    """
    kind: EdgeKind = "raw" if is_mended else "row"
    seeds, asking = torch.arange(len(episode.nodes)).tensor_split([episode.num_support])
    around = field.ego_sets(CLASS_HOPS, seeds=seeds, sets=episode.support_labels, edges=kind)
    asked = field.ego_sets(QUERY_HOPS, seeds=asking, edges=kind)
    of_classes = _with_virtual_nodes(around, is_linked=is_mended and not field.is_peer)
    edges = scipy.sparse.block_diag([of_classes, asked.adjacency.scipy()], format="csr")
    if is_mended:
        edges = normalised(SparseMatrix.from_scipy(edges), "row").scipy()

    virtual = field.num_targets + torch.arange(episode.n_way)
    sources = torch.cat([virtual, around.rows.cpu(), asked.rows.cpu()]).numpy()
    width = field.num_targets + episode.n_way
    if sources[episode.n_way :].max() >= field.num_targets:
        raise ValueError(
            "Expected a field whose targets hold the ego graphs of the episode (got one of fewer nodes). "
            "Make it by method.field(graph, episode.nodes)."
        )
    first = scipy.sparse.csr_array((edges.data, sources[edges.indices], edges.indptr), shape=(len(sources), width))
    second = _reading(asked, episode.n_way, len(sources)) @ edges
    first, second = (SparseMatrix.from_scipy(part.astype(edges.dtype)) for part in (first, second))
    return first.to(device=field.node_ids.device), second.to(device=field.node_ids.device)


def _with_virtual_nodes(sets: EgoSets, *, is_linked: bool) -> scipy.sparse.csr_array:
    """The edges of some sets, and before them one node for each set, linked to itself and perhaps to its members."""
    adjacency, num_sets = sets.adjacency.scipy(), len(sets.sizes)
    virtual = scipy.sparse.eye_array(num_sets, dtype=adjacency.dtype)
    if not is_linked:
        return scipy.sparse.block_diag([virtual, adjacency])
    members = (np.ones(sets.num_members, adjacency.dtype), np.arange(sets.num_members), sets.pointer.cpu().numpy())
    links = scipy.sparse.csr_array(members, shape=(num_sets, sets.num_members))
    return scipy.sparse.block_array([[virtual, links], [links.T, adjacency]])


def _reading(asked: EgoSets, n_way: int, num_members: int) -> scipy.sparse.csr_array:
    """Choose the virtual nodes, which are the first of all members, and the mean of each query's, which are the last.

    Returns:
        Shape ``[n_way + num_query, num_members]``.
    """
    sizes, pointer = asked.sizes.cpu().numpy(), asked.pointer.cpu().numpy()
    shares = np.concatenate([np.ones(n_way), np.repeat(1 / sizes, sizes)])
    places = np.concatenate([np.arange(n_way), np.arange(num_members - asked.num_members, num_members)])
    starts = np.concatenate([np.arange(n_way), n_way + pointer])
    return scipy.sparse.csr_array((shares, places, starts), shape=(n_way + len(sizes), num_members))


def _check_start(field: Field, episode: Episode) -> None:
    if not torch.equal(field.node_ids[: len(episode.nodes)], episode.nodes):
        raise ValueError(
            "Expected the first targets of 'field' to be the nodes of the episode. "
            "Make it by method.field(graph, episode.nodes)."
        )
