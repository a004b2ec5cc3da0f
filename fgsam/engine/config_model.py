"""What a run is asked to do: one frozen model for each part, every option with its default and its source.

A run has one of two tasks, each with sections of its own: few-shot learning draws episodes of classes that training has
not seen, node classification divides the nodes of all classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from fgsam.registry import CLASSIFIERS, DATASETS, ENCODERS, METHODS, OPTIMIZERS, Registry

PLACES = ("run.root", "dataset.root", "dataset.path", "train.max_seconds")
"""Keys that say where and how long, and so are no part of what a run computes."""

NEWER = (
    "dataset.features",
    "episode.query_imbalance",
    "episode.without_replacement",
    "episode.support_noise",
    "graph.setting",
    "graph.edge_noise",
    "method.smoothing",
    "method.num_trials",
    "train.episodes_per_step",
    "train.perturbation",
)
"""Keys that came after runs had names: left out of what a run computes at their default, so that the names stay."""


TASK_TEXT = "what is learned: few_shot (episodes of new classes) or node_classification (nodes of all classes)"


class Section(BaseModel):
    """One part of a config."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class EntrySection(Section):
    """A part that names a registry entry; the entry's own keyword arguments are further keys.

    Attributes:
        table: Names that the entry may have.
        num_given: Arguments of the entry that the engine supplies itself.
    """

    table: ClassVar[Registry]
    num_given: ClassVar[int] = 1
    option_names: ClassVar[tuple[str, ...]] = ()
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The entry's own keyword arguments, defaults included."""
        named = {name: getattr(self, name) for name in self.option_names}
        return {**named, **(self.model_extra or {})}


class DatasetConfig(EntrySection):
    """The graph and its class split."""

    table = DATASETS  # is given the root
    name: str = Field("synthetic", description="named graph, or 'package.module:load'")
    path: str | None = Field(None, description="file of an own graph (npz) instead of a named one")
    root: str | None = Field(None, description="folder of raw files; FGSAM_DATA, then the cache, when not given")
    split: int | str = Field(0, description="class split: its number or its name")
    symmetrise: bool | None = Field(
        None, description="make a directed graph undirected; loader or file decides when not given"
    )
    features: str | None = Field(
        None,
        pattern=r"^(degree|one_hot|random_walk|smoothed|(hops|pagerank|scales)_(row|sym)_[1-9]\d?)$",
        description="degree, one_hot or random_walk for features made of the edges; smoothed, or "
        "<hops|pagerank|scales>_<row|sym>_<number>, for the graph's own averaged over neighbours; own when not given",
    )


class NodeDatasetConfig(DatasetConfig):
    """The graph and how its nodes are divided."""

    split: int = Field(0, ge=0, description="division of the nodes into training, validation and test: its number")
    split_kind: Literal["public", "drawn", "drawn_20"] | None = Field(
        None,
        description="public: as published; drawn: 60/20/20 % of each class; drawn_20: 20 nodes a class, 500, 1000; the "
        "published ones where there are any when not given",
    )


class GraphConfig(Section):
    """What of the graph is seen while training, and how true its edges are."""

    setting: Literal["transductive", "inductive"] = Field(
        "transductive", description="whether nodes of validation and test classes are in the graph while training"
    )
    edge_noise: float = Field(0.0, ge=0, le=1, description="share of the edges replaced by random ones")


class EpisodeConfig(Section):
    """The shape of an episode."""

    n_way: int = Field(5, ge=2, description="classes in an episode")
    k_shot: int = Field(3, ge=1, description="support nodes per class")
    num_query: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        10, description="query nodes per class; 'all' for every node that is no support node"
    )
    query_imbalance: float | None = Field(
        None, ge=0.01, description="Dirichlet concentration of the classes' shares of query nodes; equal when not given"
    )
    without_replacement: bool = Field(False, description="validation and test banks use no node twice")
    support_noise: float = Field(0.0, ge=0, lt=1, description="share of support nodes with a wrong label")

    @property
    def shape(self) -> dict[str, Any]:
        """What decides which nodes are drawn, as arguments of a sampler."""
        sizes = {"n_way": self.n_way, "k_shot": self.k_shot, "num_query": self.num_query}
        return sizes if self.query_imbalance is None else {**sizes, "query_imbalance": self.query_imbalance}


class EncoderConfig(EntrySection):
    """The encoder and its keyword arguments."""

    table = ENCODERS  # is given the number of features
    name: str = Field("gcn", description="encoder, or 'package.module:Class'")


class MethodConfig(EntrySection):
    """The few-shot learner and its keyword arguments."""

    table = METHODS  # is given the encoder
    is_trained: ClassVar[bool] = True
    name: str = Field("gpn", description="few-shot learner, or 'package.module:Class'")


class ClassifierConfig(MethodConfig):
    """The node classifier and its keyword arguments."""

    table = CLASSIFIERS
    num_given = 2  # the encoder and the number of classes
    name: str = Field("classifier", description="node classifier, or 'package.module:Class'")


class OptimizerConfig(EntrySection):
    """The update rule, its keyword arguments, and the base optimizer that makes the real step."""

    table = OPTIMIZERS
    num_given = 2  # the model and the base
    name: str = Field("fgsam_plus", description="update rule, or 'package.module:Class'")
    base: Literal["adam", "adamw", "sgd"] = Field("adam", description="optimizer that makes the real step")
    lr: float = Field(0.005, gt=0, description="step size of the base optimizer")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay, at the unperturbed weights")
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum of sgd")

    @property
    def base_options(self) -> dict[str, Any]:
        """Keyword arguments of the base optimizer."""
        options: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay}
        return {**options, "momentum": self.momentum} if self.base == "sgd" else options


class TrainConfig(Section):
    """How long to train, and how to choose the weights.

    Attributes:
        length: The key that says how long training takes at most.
    """

    length: ClassVar[str]
    val_every: int = Field(50, ge=1, description="steps between two validations")
    patience: int = Field(6, ge=1, description="validations without a new best score before training stops")
    seed: int = Field(0, ge=0, description="seed of initial weights and of what is drawn for training")
    max_seconds: float | None = Field(None, gt=0, description="stop after this many seconds, to be continued later")
    peer_dropout: bool = Field(False, description="dropout in the peer pass")
    allow_inexact: bool = Field(False, description="allow modules whose rows depend on unrelated rows")

    @property
    def batches_per_step(self) -> int:
        """What a step learns from: this many episodes, or one batch of nodes."""
        return 1

    @property
    def max_steps(self) -> int:
        """Steps of training at most."""
        return int(getattr(self, self.length)) // self.batches_per_step


class EpisodeTrainConfig(TrainConfig):
    """Training by episodes, one or several a step."""

    length = "num_episodes"
    num_episodes: int = Field(1000, ge=1, description="training episodes at most, whatever their number in a step")
    episodes_per_step: int = Field(1, ge=1, description="episodes in a step, divided among the ranks of torchrun")
    perturbation: Literal["global", "per_rank"] = Field(
        "global", description="with torchrun: global for all episodes of a step, or per_rank for each rank's own"
    )
    val_episodes: int = Field(200, ge=2, description="episodes of the validation bank")

    @property
    def batches_per_step(self) -> int:
        """Episodes in a step."""
        return self.episodes_per_step


class NodeTrainConfig(TrainConfig):
    """Training on all training nodes at once, or on batches of them."""

    length = "num_steps"
    num_steps: int = Field(500, ge=1, description="training steps at most; an epoch each without batch_size")
    batch_size: int | None = Field(None, ge=1, description="training nodes in a step; all of them when not given")
    val_every: int = Field(5, ge=1, description="steps between two validations")
    patience: int = Field(40, ge=1, description="validations without a new best score before training stops")


class EvaluateConfig(Section):
    """What the result is measured on."""

    num_episodes: int = Field(1000, ge=2, description="episodes of the test bank")


class MachineConfig(Section):
    """Where the run is stored and what it computes with."""

    root: str = Field("runs", min_length=1, description="folder of all run directories")
    threads: int = Field(1, ge=1, le=1024, description="processor threads")
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="cpu, cuda or cuda:<number>")
    dtype: Literal["float32", "float64"] = Field("float32", description="precision of features and weights")
    deterministic: bool = Field(False, description="refuse operations that are not deterministic")


FEW_SHOT, NODE_CLASSIFICATION = "few_shot", "node_classification"

SECTIONS: dict[str, type[Section]] = {
    "dataset": DatasetConfig,
    "graph": GraphConfig,
    "episode": EpisodeConfig,
    "encoder": EncoderConfig,
    "method": MethodConfig,
    "optimizer": OptimizerConfig,
    "train": EpisodeTrainConfig,
    "evaluate": EvaluateConfig,
    "run": MachineConfig,
}
"""The sections of few-shot learning; every section of another task has its name here, too."""

TASKS: dict[str, dict[str, type[Section]]] = {
    FEW_SHOT: SECTIONS,
    NODE_CLASSIFICATION: {
        "dataset": NodeDatasetConfig,
        "encoder": EncoderConfig,
        "method": ClassifierConfig,
        "optimizer": OptimizerConfig,
        "train": NodeTrainConfig,
        "run": MachineConfig,
    },
}


class RunConfig(BaseModel):
    """Everything that one run depends on, of either task; made by ``load_config``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: ClassVar[str]
    dataset: DatasetConfig
    encoder: EncoderConfig
    method: MethodConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    run: MachineConfig
    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def assemble(
        cls, models: Mapping[str, type[Section]], values: Mapping[str, Mapping[str, Any]], sources: Mapping[str, str]
    ) -> Self:
        """Make a config of checked values.

        Args:
            models: The model of each section, extended by its entry's options.
            values: Values by section and key; what is missing has its default.
            sources: Where each dotted key comes from.
        """
        parts = {name: model.model_validate_json(json.dumps(values.get(name, {}))) for name, model in models.items()}
        config = cls.model_validate(parts)
        config._sources.update(sources)
        return config

    @property
    def sections(self) -> dict[str, Section]:
        """The parts by name."""
        return {name: getattr(self, name) for name in TASKS[self.task]}

    @property
    def sources(self) -> dict[str, str]:
        """Where each dotted key's value comes from: default, file, command line or argument."""
        return {key: self._sources.get(key, "default") for key in self.flat()}

    @property
    def descriptions(self) -> dict[str, str]:
        """What each dotted key means."""
        texts = {"task": TASK_TEXT}
        for name, section in self.sections.items():
            fields = type(section).model_fields
            texts.update({f"{name}.{key}": field.description or "" for key, field in fields.items()})
        return texts

    @property
    def is_trained(self) -> bool:
        """Whether the method learns; a floor does not."""
        return self.method.is_trained

    def resolved(self) -> dict[str, Any]:
        """Every option with its value, as plain values by section and key; the task too, unless it is few-shot."""
        parts: dict[str, Any] = {} if self.task == FEW_SHOT else {"task": self.task}
        return parts | {name: plain_value(dict(section)) for name, section in self.sections.items()}

    def flat(self) -> dict[str, Any]:
        """The task, and every option by its dotted key, as plain values."""
        parts = {name: plain_value(dict(section)) for name, section in self.sections.items()}
        options = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}
        return {"task": self.task, **options}

    def content(self) -> dict[str, Any]:
        """What the run computes: the resolved config without places, time limits and newer keys at their default."""
        content = self.resolved()
        for dotted in PLACES:
            section, _, key = dotted.partition(".")
            del content[section][key]
        for dotted in NEWER:
            section, _, key = dotted.partition(".")
            field = type(self.sections[section]).model_fields.get(key) if section in content else None
            if field is not None and content[section][key] == plain_value(field.default):
                del content[section][key]
        return {section: values for section, values in content.items() if values}

    def to_yaml(self) -> str:
        """The resolved config as a YAML text that ``load_config`` reads back."""
        return yaml.safe_dump(self.resolved(), sort_keys=False, allow_unicode=True)


class FewShotConfig(RunConfig):
    """A run that learns episodes, and is tested on classes that it has not seen."""

    task = FEW_SHOT
    graph: GraphConfig
    episode: EpisodeConfig
    train: EpisodeTrainConfig
    evaluate: EvaluateConfig

    def content(self) -> dict[str, Any]:
        """What the run computes.

        A method without training ignores encoder, optimizer and training, so these are left out, and equal runs are
        one run.
        """
        content = super().content()
        if not self.is_trained:
            del content["encoder"], content["optimizer"]
            content["train"] = {"val_episodes": self.train.val_episodes}
        return content


class NodeConfig(RunConfig):
    """A run that classifies nodes by some labelled ones of the same classes."""

    task = NODE_CLASSIFICATION
    dataset: NodeDatasetConfig
    method: ClassifierConfig
    train: NodeTrainConfig


CONFIGS: dict[str, type[RunConfig]] = {config.task: config for config in (FewShotConfig, NodeConfig)}


def plain_value(value: Any) -> Any:
    """Turn tuples into lists and objects into the names they are imported by, for YAML and JSON."""
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_value(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    module = getattr(value, "__module__", None)
    return f"{module}:{value.__qualname__}" if module and hasattr(value, "__qualname__") else str(value)
