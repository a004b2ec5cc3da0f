"""Names that a config may use, and where each of them lives.

A table maps a name to ``package.module:attribute``. Nothing is imported before it is asked for, so that listing names
costs nothing. To add an entry, write its file and one line here; the contract tests then cover it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from fgsam.checks import suggest


class Registry(Mapping[str, str]):
    """Maps names to import paths, and loads what they name.

    Args:
        kind: What an entry is, for messages: ``"encoder"``.
        entries: Import path ``package.module:attribute`` for each name.

    Example:
        >>> Registry("function", {"root": "math:sqrt"}).load("root")(9.0)
        3.0
    """

    def __init__(self, kind: str, entries: dict[str, str]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> str:
        if name not in self._entries:
            choices = ", ".join(sorted(self))
            raise ValueError(
                f"Expected a known {self.kind} or 'package.module:Class' (got '{name}'). "
                f"{suggest(name, self._entries)} Known: {choices}."
            )
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def load(self, name: str) -> Any:
        """Import what a name stands for.

        Args:
            name: A name of the table, or ``package.module:attribute`` for something of the user's own.

        Raises:
            ValueError: If the name is unknown, or its module or attribute cannot be found.
        """
        path = name if ":" in name else self[name]
        module, _, attribute = path.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        # A user's module may fail in any way while it is imported, by a syntax error for one.
        except Exception as error:
            reason = error if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
            raise ValueError(
                f"Expected {self.kind} '{name}' to be importable ({reason}). "
                "Write it as 'package.module:Class' and make sure that the package can be imported from here."
            ) from error


ENCODERS = Registry(
    "encoder",
    {
        "gcn": "fgsam.nn.gcn:GCN",
        "sgc": "fgsam.nn.sgc:SGC",
        "sage": "fgsam.nn.sage:SAGE",
        "gat": "fgsam.nn.gat:GAT",
        "gin": "fgsam.nn.gin:GIN",
        "appnp": "fgsam.nn.appnp:APPNP",
        "gcnii": "fgsam.nn.gcnii:GCNII",
        "gprgnn": "fgsam.nn.gprgnn:GPRGNN",
        "h2gcn": "fgsam.nn.h2gcn:H2GCN",
        "mlp": "fgsam.nn.mlp:MLP",
    },
)

METHODS = Registry(
    "method",
    {
        "protonet": "fgsam.methods.protonet:ProtoNet",
        "gpn": "fgsam.methods.gpn:GPN",
        "tent": "fgsam.methods.tent:TENT",
        "matchingnet": "fgsam.methods.matchingnet:MatchingNet",
        "linear_probe": "fgsam.methods.linear_probe:LinearProbe",
        "fine_tune": "fgsam.methods.fine_tune:FineTune",
        "tlp": "fgsam.methods.tlp:TLP",
        "ceiling": "fgsam.methods.ceiling:Ceiling",
        "maml": "fgsam.methods.maml:MAML",
        "anil": "fgsam.methods.anil:ANIL",
        "boil": "fgsam.methods.boil:BOIL",
        "meta_sgd": "fgsam.methods.meta_sgd:MetaSGD",
        "amm_gnn": "fgsam.methods.amm_gnn:AMMGNN",
        "raw_lr": "fgsam.methods.floors:RawLR",
        "sgc_lr": "fgsam.methods.floors:SGCLR",
        "sgc_prototype": "fgsam.methods.floors:SGCPrototype",
        "sgc_kmeans": "fgsam.methods.sgc_kmeans:SGCKMeans",
        "label_propagation": "fgsam.methods.label_propagation:LabelPropagation",
        "smooth_clusters": "fgsam.methods.smooth_clusters:SmoothClusters",
        "untrained": "fgsam.methods.untrained:Untrained",
        "peer_mlp": "fgsam.methods.peer_mlp:PeerMLP",
        "mlp": "fgsam.methods.mlp:MLP",
    },
)

CLASSIFIERS = Registry("classifier", {"classifier": "fgsam.methods.classifier:NodeClassifier"})

OPTIMIZERS = Registry(
    "optimizer",
    {
        "adam": "fgsam.optim.plain:Adam",
        "adamw": "fgsam.optim.plain:AdamW",
        "sgd": "fgsam.optim.plain:SGD",
        "sam": "fgsam.optim.sam:SAM",
        "asam": "fgsam.optim.asam:ASAM",
        "fgsam": "fgsam.optim.fgsam:FGSAM",
        "fgsam_plus": "fgsam.optim.fgsam_plus:FGSAMPlus",
        "sassha": "fgsam.optim.sassha:Sassha",
        "m_sassha": "fgsam.optim.m_sassha:MSassha",
        "adahessian": "fgsam.optim.adahessian:AdaHessian",
        "sophia_h": "fgsam.optim.sophia_h:SophiaH",
        "safe": "fgsam.optim.safe:SAFE",
        "safe_plus": "fgsam.optim.safe_plus:SAFEPlus",
        "magnitude_pruning": "fgsam.optim.magnitude_pruning:MagnitudePruning",
        "iht": "fgsam.optim.iht:IHT",
        "admm_pruning": "fgsam.optim.admm_pruning:ADMMPruning",
        "looksam": "fgsam.optim.looksam:LookSAM",
        "aesam": "fgsam.optim.aesam:AESAM",
        "momentum_sam": "fgsam.optim.momentum_sam:MomentumSAM",
        "gsam": "fgsam.optim.gsam:GSAM",
        "friendly_sam": "fgsam.optim.friendly_sam:FriendlySAM",
        "bilateral_sam": "fgsam.optim.bilateral_sam:BilateralSAM",
        "wsam": "fgsam.optim.wsam:WSAM",
        "tilted_sam": "fgsam.optim.tilted_sam:TiltedSAM",
        "zeroth_order_tilted_sam": "fgsam.optim.zeroth_order_tilted_sam:ZerothOrderTiltedSAM",
        "sa_gd": "fgsam.optim.sa_gd:SAGD",
        "ssam_fisher": "fgsam.optim.ssam_fisher:SSAMFisher",
        "ssam_dynamic": "fgsam.optim.ssam_dynamic:SSAMDynamic",
        "esam": "fgsam.optim.esam:ESAM",
        "ausam": "fgsam.optim.ausam:AUSAM",
        "micro_batch_sam": "fgsam.optim.micro_batch_sam:MicroBatchSAM",
    },
)

DATASETS = Registry(
    "graph",
    {
        "synthetic": "fgsam.data.synthetic:load",
        "coauthor_cs": "fgsam.data.attributed:coauthor_cs",
        "coauthor_physics": "fgsam.data.attributed:coauthor_physics",
        "amazon_computers": "fgsam.data.attributed:amazon_computers",
        "corafull": "fgsam.data.attributed:corafull",
        "cora_ml": "fgsam.data.attributed:cora_ml",
        "citation_citeseer": "fgsam.data.attributed:citation_citeseer",
        "citation_dblp": "fgsam.data.attributed:citation_dblp",
        "corafull_derived": "fgsam.data.corafull_derived:corafull_derived",
        "clothing20": "fgsam.data.few_shot:clothing20",
        "amazon_clothing": "fgsam.data.few_shot:amazon_clothing",
        "amazon_electronics": "fgsam.data.few_shot:amazon_electronics",
        "fsnc_dblp": "fgsam.data.few_shot:fsnc_dblp",
        "email": "fgsam.data.email:email",
        "nell": "fgsam.data.nell:nell",
        "cora": "fgsam.data.planetoid:cora",
        "citeseer": "fgsam.data.planetoid:citeseer",
        "pubmed": "fgsam.data.planetoid:pubmed",
        "chameleon": "fgsam.data.geom_gcn:chameleon",
        "squirrel": "fgsam.data.geom_gcn:squirrel",
        "actor": "fgsam.data.geom_gcn:actor",
        "cornell": "fgsam.data.geom_gcn:cornell",
        "texas": "fgsam.data.geom_gcn:texas",
        "wisconsin": "fgsam.data.geom_gcn:wisconsin",
        "chameleon_filtered": "fgsam.data.heterophilous:chameleon_filtered",
        "squirrel_filtered": "fgsam.data.heterophilous:squirrel_filtered",
        "minesweeper": "fgsam.data.heterophilous:minesweeper",
        "tolokers": "fgsam.data.heterophilous:tolokers",
        "roman_empire": "fgsam.data.heterophilous:roman_empire",
        "ogbn_arxiv": "fgsam.data.ogb:ogbn_arxiv",
        "reddit": "fgsam.data.reddit:reddit",
        "wikics": "fgsam.data.wikics:wikics",
    },
)

CALLBACKS = Registry("callback", {"tensorboard": "fgsam.engine.tensorboard:TensorBoard"})

EXECUTORS = Registry(
    "executor",
    {
        "inline": "fgsam.comparison.executors.inline:Inline",
        "processes": "fgsam.comparison.executors.processes:Processes",
        "dask": "fgsam.comparison.executors.cluster:Dask",
    },
)
