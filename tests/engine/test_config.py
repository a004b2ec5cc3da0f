from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from fgsam.assets import asset_folder
from fgsam.engine.config import SECTIONS, ConfigError, load_config
from fgsam.engine.config_entries import entry_model, entry_option_names
from fgsam.engine.config_model import TASKS, EncoderConfig, EntrySection
from fgsam.engine.options import REQUIRED, argument_texts, read_options
from fgsam.registry import OPTIMIZERS


class OwnNet(nn.Module):
    """A net of the user.

    Args:
        in_channels: Given by the engine.
        width: Width of the
            hidden layer.
        depth: Number of layers.
    """

    def __init__(self, in_channels: int, width: int, depth: int = 2, sizes: tuple[int, ...] = (1, 2)) -> None:
        super().__init__()


class OpenNet(nn.Module):
    def __init__(self, in_channels: int, **options: object) -> None:
        super().__init__()


def faults_of(*overrides: str, path: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return [str(fault) for fault in caught.value.faults]


def fault_of(*overrides: str, path: Path | None = None) -> str:
    faults = faults_of(*overrides, path=path)
    assert len(faults) == 1, faults
    return faults[0]


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def test_without_arguments_every_option_has_its_default():
    config = load_config()
    flat = config.flat()
    assert flat["dataset.name"] == "synthetic"
    assert flat["episode.n_way"] == 5
    assert flat["optimizer.rho"] > 0
    assert set(config.sources.values()) == {"default"}
    for section in ("encoder", "method", "optimizer"):
        name = getattr(config, section).name
        assert entry_option_names(SECTIONS[section], name) - {"base"} <= set(config.resolved()[section])


ENTRIES = [
    (task, section, name)
    for task, models in TASKS.items()
    for section, model in models.items()
    if issubclass(model, EntrySection)
    for name in model.table
]


@pytest.mark.parametrize(("task", "section", "name"), ENTRIES)
def test_every_entry_of_every_table_has_a_config(task: str, section: str, name: str):
    config = load_config(overrides=[f"task={task}", f"{section}.name={name}"])
    model = TASKS[task][section]
    assert set(getattr(config, section).options) == entry_option_names(model, name) - set(model.model_fields)
    assert load_config(values=config.resolved()).content() == config.content()


def test_sources_name_default_file_and_command_line(tmp_path: Path):
    path = written(tmp_path, "episode: {n_way: 2, k_shot: 1}\n")
    config = load_config(path, ["episode.k_shot=4"])
    assert (config.episode.n_way, config.episode.k_shot) == (2, 4)
    assert config.sources["episode.n_way"] == "file"
    assert config.sources["episode.k_shot"] == "command line"
    assert config.sources["episode.num_query"] == "default"


def test_command_line_wins_over_a_call_and_a_call_over_a_file(tmp_path: Path):
    path = written(tmp_path, "episode: {n_way: 2, k_shot: 2, num_query: 2}\n")
    config = load_config(path, ["episode.num_query=4"], values={"episode": {"k_shot": 3, "num_query": 3}})
    assert config.episode.shape == {"n_way": 2, "k_shot": 3, "num_query": 4}


def test_every_key_has_a_description():
    assert [key for key, text in load_config().descriptions.items() if not text] == []


def test_resolved_config_is_read_back_unchanged(tmp_path: Path):
    config = load_config(overrides=["method.name=protonet", "optimizer.name=sgd", "optimizer.momentum=0.9"])
    again = load_config(written(tmp_path, config.to_yaml()))
    assert again.resolved() == config.resolved()
    assert json.loads(json.dumps(again.resolved())) == yaml.safe_load(config.to_yaml())


def test_a_number_in_scientific_notation_is_a_number(tmp_path: Path):
    assert load_config(written(tmp_path, "optimizer: {lr: 5e-4}\n")).optimizer.lr == 5e-4
    assert load_config(overrides=["optimizer.lr=1e-3"]).optimizer.lr == 1e-3


def test_content_leaves_out_places_and_keeps_threads():
    one = load_config(overrides=["run.root=here", "train.max_seconds=5", "dataset.root=there"]).content()
    assert one == load_config().content()
    assert load_config(overrides=["run.threads=2"]).content() != one


def test_newer_keys_at_their_default_leave_the_name_of_a_run_as_it_was():
    content = load_config().content()
    assert "graph" not in content
    assert content["episode"] == {"n_way": 5, "k_shot": 3, "num_query": 10}
    for change in (
        "graph.setting=inductive",
        "graph.edge_noise=0.1",
        "episode.support_noise=0.2",
        "episode.without_replacement=true",
        "episode.query_imbalance=2",
        "dataset.features=degree",
    ):
        assert load_config(overrides=[change]).content() != content
    assert load_config(overrides=["graph.setting=inductive"]).content()["graph"] == {"setting": "inductive"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("episode.num_query=some", "'episode.num_query' to be a valid integer or 'all'"),
        ("episode.num_query=0", "'episode.num_query' to be greater than or equal to 1 or 'all'"),
        ("episode.query_imbalance=0", "'episode.query_imbalance' to be greater than or equal to 0.01"),
        ("episode.without_replacement=3", "'episode.without_replacement' to be a valid boolean"),
        ("episode.support_noise=1", "'episode.support_noise' to be less than 1"),
        ("episode.support_noise=-0.1", "'episode.support_noise' to be greater than or equal to 0"),
        ("episode.support_noise=0.05", "at least 2 support nodes.*0.05, 1 of 15 nodes.*The smallest share is 0.133"),
        ("graph.setting=both", "'graph.setting' to be 'transductive' or 'inductive'"),
        ("graph.edge_noise=1.5", "'graph.edge_noise' to be less than or equal to 1"),
        ("dataset.features=ones", "'dataset.features' to be degree, one_hot or random_walk"),
        ("setting=inductive", "Did you mean graph.setting=inductive"),
    ],
)
def test_a_bad_value_of_a_setting_is_named(override: str, message: str):
    with pytest.raises(ConfigError, match=message):
        load_config(overrides=[override])


def test_imbalance_and_all_queries_exclude_each_other():
    with pytest.raises(ConfigError, match=r"beside a number of query nodes .*num_query='all'\)\. Remove one"):
        load_config(overrides=["episode.num_query=all", "episode.query_imbalance=2"])


def test_options_that_a_floor_got_later_leave_the_names_of_its_runs():
    known = {"name", "hops", "edges", "costs", "dim"}
    assert set(load_config(overrides=["method.name=sgc_lr"]).content()["method"]) == known
    stronger = load_config(overrides=["method.name=sgc_lr", "method.smoothing=[hops,scales]", "method.num_trials=8"])
    assert set(stronger.content()["method"]) == {*known, "smoothing", "num_trials"}


def test_floors_ignore_encoder_and_optimizer_in_their_content():
    floor = load_config(overrides=["method.name=sgc_lr"])
    same = load_config(overrides=["method.name=sgc_lr", "encoder.name=gat", "optimizer.name=sam", "train.seed=3"])
    assert not floor.is_trained
    assert floor.content() == same.content()
    assert "optimizer" not in floor.content()


def test_a_config_is_frozen():
    config = load_config()
    with pytest.raises(ValueError, match="frozen"):
        config.episode.n_way = 3  # type: ignore[misc]


def test_all_faults_are_reported_at_once(tmp_path: Path):
    path = written(
        tmp_path, "episode:\n  n_way: 1\n  kshot: 3\ntrian: {}\nencoder:\n  name: gnn\noptimizer:\n  rhoo: 1\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["run.threads=0", "nonsense"])
    text = str(caught.value)
    assert text.startswith("Expected a valid config (got 7 faults).")
    assert f"Expected 'episode.n_way' to be greater than or equal to 2 (got episode.n_way=1). [{path}, line 2]" in text
    assert f"(got episode.kshot=3). Did you mean 'k_shot'? [{path}, line 3]" in text
    assert f"Expected a known section (got 'trian'). Did you mean 'train' or 'run'? [{path}, line 4]" in text
    assert "'encoder.name' to be a known encoder or 'package.module:Class' (got encoder.name='gnn')" in text
    assert "(got optimizer.rhoo=1). Did you mean 'rho'" in text
    assert "'run.threads' to be greater than or equal to 1 (got run.threads=0). [command line]" in text
    assert "Expected an override 'section.key=value' (got 'nonsense')" in text


def test_an_unknown_name_lists_the_nearest_and_all():
    text = fault_of("optimizer.name=fsam")
    assert "Did you mean" in text
    assert "'fgsam'" in text
    assert f"Known: {', '.join(sorted(OPTIMIZERS))}." in text


@pytest.mark.parametrize("name", ["adam", "sgd", "sam"])
def test_an_option_of_another_entry_says_which_entries_know_it(name: str):
    assert "Known by fgsam_plus, looksam." in fault_of(f"optimizer.name={name}", "optimizer.refresh_every=2")


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("episode.n_way=true", "a valid integer"),
        ("episode.n_way='5'", "a valid integer"),
        ("episode.n_way=2.5", "a valid integer"),
        ("optimizer.lr=fast", "a valid number"),
        ("optimizer.lr=.nan", "a finite number"),
        ("optimizer.rho=.inf", "a finite number"),
        ("optimizer.base=adma", "'adam', 'adamw' or 'sgd'"),
        ("run.dtype=float16", "'float32' or 'float64'"),
        ("run.device=gpu", "cpu, cuda or cuda:<number>"),
        ("dataset.split=[0]", "a valid integer or a valid string"),
        ("train.max_seconds=0", "greater than 0"),
        ("method.degree_offset=many", "a valid number"),
    ],
)
def test_a_wrong_value_says_what_was_expected(override: str, wanted: str):
    key = override.partition("=")[0]
    assert fault_of(override).startswith(f"Expected '{key}' to be {wanted} (got {key}=")


def test_options_out_of_range_are_found_in_every_section():
    faults = faults_of("optimizer.rho=-1", "encoder.dropout=2", "method.degree_offset=0")
    assert [fault.partition("(got")[0].split("'")[1] for fault in faults] == ["degree_offset", "dropout", "rho"]
    assert faults[2].endswith("[optimizer.rho=-1.0]")


def test_a_key_without_its_section_names_the_sections_that_have_it():
    assert "Did you mean optimizer.lr=0.1?" in faults_of("lr=0.1")[0]
    assert "Did you mean train.num_episodes=3 or evaluate.num_episodes=3?" in faults_of("num_episodes=3")[0]
    assert faults_of("nothing=1")[0].endswith("(got 'nothing=1'). [command line]")


def test_a_file_given_as_a_name_is_sent_to_the_right_key():
    fault = faults_of("dataset.name=my/graph.npz")[0]
    assert "Write dataset.path=my/graph.npz instead." in fault


def test_a_number_of_threads_that_would_crash_is_refused():
    assert "'run.threads' to be less than or equal to 1024" in faults_of("run.threads=1000000")[0]


def test_reading_a_config_draws_no_random_numbers():
    before = torch.get_rng_state()
    load_config()
    assert torch.equal(torch.get_rng_state(), before)


def test_momentum_needs_sgd():
    assert "Remove it, or set optimizer.base=sgd" in fault_of("optimizer.momentum=0.9")
    assert (
        load_config(overrides=["optimizer.momentum=0.9", "optimizer.base=sgd"]).optimizer.base_options["momentum"]
        == 0.9
    )


def test_schedules_of_rules_end_with_the_training():
    config = load_config(None, ["optimizer.name=safe", "train.num_episodes=77"])
    assert (config.optimizer.num_steps, config.sources["optimizer.num_steps"]) == (77, "default")
    assert load_config(None, ["optimizer.name=safe", "optimizer.num_steps=50"]).optimizer.num_steps == 50
    assert "optimizer.num_steps" not in load_config(None, ["optimizer.name=sam"]).flat()


def test_faults_come_back_whole_from_another_process():
    with pytest.raises(ConfigError) as found:
        load_config(None, ["episode.n_way=1", "train.seed=-1"])
    again = pickle.loads(pickle.dumps(found.value))
    assert str(again) == str(found.value)
    assert again.faults == found.value.faults


def test_a_plain_optimizer_is_its_own_base():
    assert load_config(overrides=["optimizer.name=sgd"]).optimizer.base == "sgd"
    assert "Expected 'optimizer.base' to be 'adamw'" in fault_of("optimizer.name=adamw", "optimizer.base=sgd")


def test_bad_yaml_names_the_line(tmp_path: Path):
    path = written(tmp_path, "episode:\n  n_way: [1, 2\nmethod: {}\n")
    text = fault_of(path=path)
    assert text.startswith("Expected valid YAML")
    assert f"{path}, line 3" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n- 2\n", "Expected sections with keys (got [1, 2])"),
        ("episode: 5\n", "Expected section 'episode' to have keys (got episode=5)"),
        ("episode:\n  n_way: 2\n  n_way: 3\n", "Expected each key once (got 'episode.n_way' again)"),
        ("episode:\n  n_way: 2\nepisode:\n  k_shot: 3\n", "Expected each key once (got 'episode' again)"),
        ("episode: {n_way: !!python/object:os.system {}}\n", "Expected valid YAML"),
        ("1: {}\n", "Expected a known section (got '1')"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, text: str, message: str):
    assert message in fault_of(path=written(tmp_path, text))


def test_a_value_that_contains_itself_is_named(tmp_path: Path):
    path = tmp_path / "ring.yaml"
    path.write_text("episode: &ring\n  n_way: *ring\n")
    assert faults_of(path=path)[0].startswith("Expected 'episode.n_way' to be a number")


def test_a_file_that_is_no_text_is_named(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "Expected a config file in UTF-8" in fault_of(path=path)


@pytest.mark.parametrize("text", ["", "# nothing\n", "episode:\n"])
def test_an_empty_file_is_all_defaults(tmp_path: Path, text: str):
    assert load_config(written(tmp_path, text)).resolved() == load_config().resolved()


def test_an_own_class_has_the_options_of_its_constructor():
    config = load_config(overrides=[f"encoder.name={__name__}:OwnNet", "encoder.width=8", "encoder.sizes=[3, 4]"])
    assert config.encoder.options == {"width": 8, "depth": 2, "sizes": (3, 4)}
    assert config.resolved()["encoder"]["sizes"] == [3, 4]
    assert config.descriptions["encoder.width"] == "Width of the hidden layer."


def test_an_own_class_with_a_missing_or_wrong_option_is_a_fault():
    assert "Expected a value for 'encoder.width'" in fault_of(f"encoder.name={__name__}:OwnNet")
    assert "Did you mean 'width'?" in faults_of(f"encoder.name={__name__}:OwnNet", "encoder.widht=8")[0]


def test_an_open_own_class_takes_further_options():
    config = load_config(overrides=[f"encoder.name={__name__}:OpenNet", "encoder.bias=false"])
    assert config.encoder.options == {"bias": False}


def test_an_own_class_that_cannot_be_imported_is_a_fault():
    assert "to be importable (No module named 'nowhere')" in fault_of("encoder.name=nowhere:Net")


def test_options_of_a_function_are_its_arguments():
    def load(root: Path | None = None, *, size: int, kind: str = "a", costs: Iterable[float] = ()) -> None: ...

    options = read_options(load, 1).entries
    assert options["costs"].annotation == tuple[float, ...]
    assert options["size"].default is REQUIRED
    assert options["kind"].annotation is str


def test_a_docstring_without_arguments_gives_no_texts():
    assert argument_texts(None) == {}
    assert argument_texts("Only a sentence.") == {}


def test_the_model_of_an_entry_rejects_other_keys():
    model = entry_model(EncoderConfig, "own", OwnNet)
    with pytest.raises(ValueError, match="Extra inputs"):
        model(width=3, hidden=4)


def test_an_entry_that_changed_in_place_has_a_new_model(monkeypatch: pytest.MonkeyPatch):
    assert entry_model(EncoderConfig, "own", OwnNet) is entry_model(EncoderConfig, "own", OwnNet)

    def changed(self, num_features: int, *, depth: int = 2): ...

    monkeypatch.setattr(OwnNet, "__init__", changed)
    assert entry_model(EncoderConfig, "own", OwnNet)(depth=3).options == {"depth": 3}


def test_an_entry_without_a_hash_has_a_model():
    @dataclass
    class Maker:
        def __call__(self, num_features: int, *, depth: int = 2): ...

    assert entry_model(EncoderConfig, "own", Maker()).option_names == ("depth",)


def test_a_given_object_needs_no_table():
    config = load_config(values={"dataset": {"split": 2}}, objects={"dataset": "mine", "encoder": "my.nets:Net"})
    assert (config.dataset.name, config.dataset.split) == ("mine", 2)
    assert config.encoder.options == {}


def test_an_object_of_the_caller_takes_no_options():
    with pytest.raises(ConfigError, match="Expected no option beside an own encoder"):
        load_config(values={"encoder": {"hidden": 4}}, objects={"encoder": "my.nets:Net"})


def test_a_value_that_is_no_plain_value_is_a_fault():
    with pytest.raises(ConfigError, match=r"'encoder.hidden' to be a number, a text"):
        load_config(values={"encoder": {"hidden": object()}})


def test_an_own_graph_is_named_by_its_path_alone(tmp_path: Path):
    assert load_config(overrides=[f"dataset.path={tmp_path}/g.npz"]).dataset.name == "own"
    text = fault_of(f"dataset.path={tmp_path}/g.npz", "dataset.name=synthetic")
    assert "Expected 'dataset.name' or 'dataset.path', not both" in text


def load_plain(root: Path | None = None, *, size: int = 3) -> None: ...


def test_a_graph_with_one_form_only_takes_no_symmetrise():
    text = fault_of(f"dataset.name={__name__}:load_plain", "dataset.symmetrise=true")
    assert "Expected no such choice for graph" in text
    assert (
        load_config(overrides=["dataset.name=corafull_derived", "dataset.symmetrise=false"]).dataset.symmetrise is False
    )


def test_a_later_graph_replaces_an_earlier_one(tmp_path: Path):
    named = written(tmp_path, "dataset: {name: synthetic}\n")
    assert load_config(named, ["dataset.path=g.npz"]).dataset.name == "own"
    own = written(tmp_path, "dataset: {path: g.npz}\n")
    assert load_config(own, ["dataset.name=synthetic"]).dataset.path is None


def test_a_later_name_drops_options_of_the_earlier_entry_only(tmp_path: Path):
    path = written(tmp_path, "optimizer: {name: fgsam_plus, alpha: 0.5, rho: 0.3}\n")
    config = load_config(path, ["optimizer.name=sam"])
    assert config.optimizer.options["rho"] == 0.3
    assert "optimizer.alpha" not in config.sources
    fault = fault_of("optimizer.name=sam", "optimizer.alpha=0.5", path=path)
    assert "Known by ausam, fgsam_plus, gsam, looksam." in fault


def test_an_unknown_file_names_the_nearest_of_the_package():
    with pytest.raises(FileNotFoundError, match="Did you mean 'coauthor_cs/gpn'"):
        load_config("coauthor_cs/gnp")


@pytest.mark.parametrize(
    "path",
    sorted(path for path in asset_folder("configs").rglob("*.yaml") if path.parent.name != "compare"),
    ids=lambda path: path.stem,
)
def test_the_configs_of_the_package_are_valid(path: Path):
    config = load_config(path)
    name = path.relative_to(asset_folder("configs")).with_suffix("")
    assert load_config(str(name)).resolved() == config.resolved()


def test_structural_faults_are_found_without_torch():
    program = (
        "import sys\nfrom fgsam.engine.config import load_config\n"
        "try:\n    load_config(overrides=['train.sed=1', 'encoder.name=gnc'])\n"
        "except ValueError:\n    print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_episodes_are_counted_whatever_their_number_in_a_step():
    config = load_config(overrides=["train.num_episodes=60", "train.episodes_per_step=4", "optimizer.name=safe"])
    assert config.train.max_steps == 15
    assert config.optimizer.options["num_steps"] == 15
    fault = fault_of("train.num_episodes=50", "train.episodes_per_step=4")
    assert "'train.num_episodes' to be a multiple of 'train.episodes_per_step' (got num_episodes=50" in fault
    assert "Set train.num_episodes=48." in fault
    assert "greater than or equal to 1" in fault_of("train.episodes_per_step=0")
    assert "'global' or 'per_rank'" in fault_of("train.perturbation=local")
    assert "key of task=few_shot" in fault_of("task=node_classification", "train.episodes_per_step=2")


def test_one_episode_a_step_is_no_part_of_what_a_run_computes():
    plain, several = load_config().content(), load_config(overrides=["train.episodes_per_step=2"]).content()
    assert not {"episodes_per_step", "perturbation"} & set(plain["train"])
    assert several["train"] == {**plain["train"], "episodes_per_step": 2}
