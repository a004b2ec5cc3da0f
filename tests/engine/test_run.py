from __future__ import annotations

import json
import shutil
import signal

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GraphSAGE

from fgsam.engine import outcome, record
from fgsam.engine import run as run_module
from fgsam.engine.arguments import config_of_call
from fgsam.engine.callbacks import Callback
from fgsam.engine.interrupts import Interrupted
from fgsam.engine.run import execute, load_run
from fgsam.engine.train import Trainer
from fgsam.graph.graph import Graph
from fgsam.methods.protonet import ProtoNet
from fgsam.optim.sam import SAM
from tests.engine.tiny import OPTIONS, tiny_graph, tiny_run
from tests.nets import CoupledNet, DifferenceNet, OneLayerNet


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def finished(root):
    return tiny_run(root, method="protonet", optimizer="sam")


def no_training(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "fit", fail)


class Signal(Callback):
    def __init__(self, step, number=signal.SIGTERM):
        self.step, self.number = step, number

    def on_step(self, trainer):
        if trainer.step == self.step:
            signal.raise_signal(self.number)


def test_a_run_holds_what_was_promised(finished):
    results = finished.results
    assert finished.directory.name.startswith("tiny-protonet-sam-")
    assert len(finished.directory.name.rpartition("-")[2]) == 12
    assert len(results["test_correct"]) == 30
    assert len(results["val_correct"]) == 20
    assert results["test_accuracy"] == pytest.approx(sum(results["test_correct"]) / (30 * 12))
    assert results["val_accuracy"] == pytest.approx(sum(results["val_correct"]) / (20 * 12))
    assert results["num_queries"] == 12
    assert results["num_episodes"] == 20
    assert results["stopped_by"] == "num_episodes"
    assert results["skipped_steps"] == 0
    assert set(results["digests"]) == {"data", "split", "val_bank", "test_bank"}
    assert set(finished.timing) == {"ms_per_episode", "train_seconds", "seconds", "peak_memory_mb"}
    assert finished.versions["torch"] == torch.__version__
    assert finished.versions["threads"] == 1


def test_the_score_reads_as_a_sentence(finished):
    assert str(finished.test).endswith("(30 episodes)")
    assert " % ± " in str(finished.test)


def test_the_summary_has_what_the_command_line_prints(finished):
    wanted = {"test_accuracy", "test_interval", "val_accuracy", "ms_per_episode", "peak_memory_mb", "num_episodes"}
    wanted |= {"weights_digest", "run_dir", "config"}
    assert wanted <= set(finished.summary())
    json.dumps(finished.summary())


def test_the_history_is_the_log(finished):
    assert [line["step"] for line in finished.history if "loss" in line] == list(range(1, 21))
    assert [line["step"] for line in finished.history if "val_accuracy" in line] == [5, 10, 15, 20]


def test_a_finished_run_is_not_computed_again(finished, root, monkeypatch):
    no_training(monkeypatch)
    again = tiny_run(root, method="protonet", optimizer="sam")
    assert again.results == finished.results
    assert again.timing == finished.timing


def test_the_same_run_elsewhere_gives_the_same_results(finished, tmp_path):
    assert tiny_run(tmp_path, method="protonet", optimizer="sam").results == finished.results


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"split": 1}, {"rho": 0.2}, {"hidden": 16}, {"n_way": 2}, {"threads": 2}, {"patience": 5}],
    ids=str,
)
def test_whatever_changes_results_changes_the_name(finished, change):
    assert run_module.run_name(*described(change))[0] != finished.directory.name


def described(change):
    from fgsam.engine.build import Entries
    from fgsam.engine.inputs import build_inputs

    options = {key: value for key, value in OPTIONS.items() if key != "progress"}
    config, _ = config_of_call(tiny_graph(), method="protonet", optimizer="sam", options={**options, **change})
    return config, build_inputs(config, tiny_graph()), Entries.load(config)


@pytest.mark.parametrize("change", [{"root": "elsewhere"}, {"max_seconds": 5.0}], ids=str)
def test_places_and_time_limits_do_not_change_the_name(finished, change):
    assert run_module.run_name(*described(change))[0] == finished.directory.name


def test_a_run_opens_again_and_gives_the_stored_score(finished):
    opened = load_run(finished.directory, graph=tiny_graph())
    assert opened.results == finished.results
    assert opened.evaluate() == finished.test
    assert finished.evaluate() == finished.test


def test_predictions_are_labels_of_the_users_own(finished):
    labels = tiny_graph().labels
    support = [0, 1, 2, 120, 121, 122]
    query = torch.tensor([3, 4, 5, 123, 124, 125])
    names = finished.predict(support, ["x", "x", "x", "y", "y", "y"], query)
    assert isinstance(names, np.ndarray)
    assert set(names) <= {"x", "y"}
    numbers = finished.predict(torch.tensor(support), labels[support], query)
    assert isinstance(numbers, torch.Tensor)
    assert set(numbers.tolist()) <= {0, 6}
    assert [name == "x" for name in names] == (numbers == 0).tolist()


def test_predictions_do_not_depend_on_the_order_of_the_support_and_take_uneven_classes(finished):
    opened = load_run(finished.directory, graph=tiny_graph())
    query = [3, 4, 123, 124, 60]
    first = opened.predict([0, 1, 2, 120, 121], [5, 5, 5, 9, 9], query)
    second = opened.predict([121, 0, 2, 120, 1], [9, 5, 5, 9, 5], query)
    assert first.tolist() == second.tolist()


def test_predicting_from_one_class_is_refused(finished):
    with pytest.raises(ValueError, match="at least 2 classes"):
        finished.predict([0, 1], ["x", "x"], [2])
    with pytest.raises(ValueError, match="one label for each support node"):
        finished.predict([0, 1], ["x", "y", "z"], [2])


@pytest.mark.parametrize("nodes", [[0, 240], [0, -1], [0, 1.5]])
def test_nodes_that_the_graph_does_not_have_are_refused(finished, nodes):
    with pytest.raises(ValueError, match=rf"node numbers in 0\.\.239 \(got 0(\.0)?, {nodes[1]}\)"):
        finished.predict(nodes, ["x", "y"], [2])


def test_a_graph_that_no_config_can_name_is_asked_for(finished):
    with pytest.raises(ValueError, match=r"the graph that this run was made with.*graph=\.\.\."):
        load_run(finished.directory).predict([0, 1], [0, 1], [2])


def test_another_graph_than_that_of_the_run_is_refused(finished):
    other = tiny_graph(per_class=21)
    with pytest.raises(ValueError, match="changed: data"):
        load_run(finished.directory, graph=other).evaluate()


def test_a_directory_without_result_is_no_run(tmp_path, finished):
    with pytest.raises(FileNotFoundError, match="to be a run directory"):
        load_run(tmp_path / "nowhere")
    unfinished = tmp_path / "run"
    shutil.copytree(finished.directory, unfinished)
    (unfinished / "result.json").unlink()
    with pytest.raises(ValueError, match="go on with: fgsam run"):
        load_run(unfinished)


def test_exchanged_weights_are_refused(finished, root, tmp_path):
    other = tiny_run(root, method="protonet", optimizer="sam", seed=7)
    copied = tmp_path / "run"
    shutil.copytree(finished.directory, copied)
    shutil.copy(other.directory / "weights.fgsam", copied / "weights.fgsam")
    with pytest.raises(ValueError, match="hold the tested weights"):
        load_run(copied, graph=tiny_graph()).evaluate()


def test_missing_weights_and_a_damaged_config_are_named(finished, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(finished.directory, copied)
    config = copied / "config.yaml"
    config.write_text(config.read_text().replace("n_way", "n_wya"))
    with pytest.raises(ValueError, match=r"config\.yaml as the run wrote it\. .*Did you mean 'n_way'"):
        load_run(copied, graph=tiny_graph()).evaluate()
    shutil.copy(finished.directory / "config.yaml", config)
    (copied / "weights.fgsam").unlink()
    with pytest.raises(FileNotFoundError, match=r"weights\.fgsam to be there .*Restore it"):
        load_run(copied, graph=tiny_graph()).evaluate()
    (copied / "config.yaml").write_text("a: [1")
    with pytest.raises(ValueError, match=r"config\.yaml to hold the config of this run"):
        load_run(copied)


def test_a_run_of_another_version_is_read_but_not_computed_with(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(outcome, "RESULTS_VERSION", 99)
    opened = load_run(finished.directory, graph=tiny_graph())
    assert opened.test == finished.test
    with pytest.raises(ValueError, match=r"a run of results_version 99 \(got \d+ in .*run again"):
        opened.evaluate()


def test_a_result_of_another_run_in_its_place_is_refused(finished, tmp_path):
    found = tiny_run(tmp_path, method="protonet", optimizer="adam", num_episodes=1)
    shutil.copy(finished.directory / "result.json", found.directory / "result.json")
    with pytest.raises(ValueError, match=r"result\.json to belong to this run .*Move its directory away"):
        tiny_run(tmp_path, method="protonet", optimizer="adam", num_episodes=1)


def test_a_finished_run_is_read_without_writing(finished, root, monkeypatch):
    def no_writing(*args):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(record, "_opened", no_writing)
    assert tiny_run(root, method="protonet", optimizer="sam").results == finished.results


def test_wrong_listeners_are_named_before_any_work(finished, root):
    with pytest.raises(ValueError, match="Did you mean 'tensorboard'"):
        tiny_run(root, method="protonet", optimizer="sam", callbacks=["tensorbord"])
    with pytest.raises(ValueError, match="'progress' to be one of auto"):
        tiny_run(root, method="protonet", optimizer="sam", progress="bra")


def test_a_floor_is_a_run_without_optimizer(root):
    found = tiny_run(root, method="sgc_prototype")
    assert found.directory.name.startswith("tiny-sgc_prototype-")
    assert found.results["chosen"]["setting"]["num_hops"] >= 1
    assert found.results["weights_digest"] is None
    assert found.history == []
    opened = load_run(found.directory, graph=tiny_graph())
    assert opened.evaluate() == found.test
    assert set(opened.predict([0, 1, 120, 121], ["x", "x", "y", "y"], [3, 123])) <= {"x", "y"}
    assert tiny_run(root, method="sgc_prototype", optimizer="sam", seed=3).directory == found.directory


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_at_the_next_episode_and_the_same_call_goes_on(finished, tmp_path, number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"after episode 7 of 20; saved in .*same command again"):
        tiny_run(tmp_path, method="protonet", optimizer="sam", callbacks=[Signal(7, number)])
    assert signal.getsignal(number) is before
    resumed = tiny_run(tmp_path, method="protonet", optimizer="sam")
    assert resumed.results == finished.results


def test_a_second_signal_does_not_wait(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        tiny_run(tmp_path, method="protonet", callbacks=[Signal(3), Signal(3)])


def test_a_run_cut_short_by_time_is_a_result_and_goes_on_with_more_time(finished, tmp_path):
    cut = tiny_run(tmp_path, method="protonet", optimizer="sam", max_seconds=1e-9)
    assert cut.results["stopped_by"] == "max_seconds"
    assert cut.results["num_episodes"] == 1
    assert tiny_run(tmp_path, method="protonet", optimizer="sam", max_seconds=1e-9).results == cut.results
    assert tiny_run(tmp_path, method="protonet", optimizer="sam").results == finished.results


def test_the_config_is_that_of_the_call_that_computed_the_result(tmp_path):
    cut = tiny_run(tmp_path, method="protonet", optimizer="sam", max_seconds=1e-9)
    assert cut.config["train"]["max_seconds"] == 1e-9
    whole = tiny_run(tmp_path, method="protonet", optimizer="sam")
    assert whole.directory == cut.directory
    assert whole.config["train"]["max_seconds"] is None
    again = tiny_run(tmp_path, method="protonet", optimizer="sam", max_seconds=9.0)
    assert again.config["train"]["max_seconds"] is None


@pytest.mark.parametrize("method", ["protonet", "sgc_prototype"])
def test_a_signal_before_the_first_step_is_not_lost(tmp_path, monkeypatch, method):
    real = run_module.build_inputs

    def build_inputs(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "build_inputs", build_inputs)
        with pytest.raises(Interrupted, match="same command again"):
            tiny_run(tmp_path, method=method)
        assert not list(tmp_path.glob("*/result.json"))
    tiny_run(tmp_path, method=method)
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "build_inputs", build_inputs)
        with pytest.raises(Interrupted, match="This run is finished"):
            tiny_run(tmp_path, method=method)


def test_a_signal_stops_the_test_at_once_and_the_same_call_goes_on(finished, tmp_path, monkeypatch):
    scored = []

    def choose(trainer):
        signal.raise_signal(signal.SIGTERM)
        scored.append(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "choose", choose)
        with pytest.raises(Interrupted, match="same command again"):
            tiny_run(tmp_path, method="protonet", optimizer="sam")
    assert scored == []
    assert tiny_run(tmp_path, method="protonet", optimizer="sam").results == finished.results


def test_a_damaged_checkpoint_stops_with_the_way_out(tmp_path):
    with pytest.raises(Interrupted):
        tiny_run(tmp_path, method="protonet", callbacks=[Signal(2)])
    (checkpoint,) = tmp_path.glob("*/checkpoint.fgsam")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    with pytest.raises(ValueError, match="delete it and run again"):
        tiny_run(tmp_path, method="protonet")


def test_threads_and_the_random_state_are_put_back(tmp_path):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    seen = []

    class Look(Callback):
        def on_step(self, trainer):
            seen.append((torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()))

    tiny_run(tmp_path, method="protonet", threads=1, deterministic=True, num_episodes=1, callbacks=[Look()])
    assert seen == [(1, True)]
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), state)


def test_the_callers_warnings_about_determinism_are_put_back(tmp_path):
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        tiny_run(tmp_path, method="protonet", num_episodes=1)
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def load_numbered(root=None):
    load_numbered.calls += 1
    return tiny_graph(per_class=20 + load_numbered.calls)


def test_a_loader_of_the_users_own_is_asked_each_time(tmp_path):
    load_numbered.calls = 0
    name = f"{__name__}:load_numbered"
    found = [tiny_run(tmp_path, graph=name, method="protonet", num_episodes=1).results for _ in range(2)]
    assert found[0]["digests"]["data"] != found[1]["digests"]["data"]


def test_a_fault_leaves_no_directory(tmp_path):
    with pytest.raises(ValueError, match="rho"):
        tiny_run(tmp_path, method="protonet", optimizer="sam", rho=-1.0)
    with pytest.raises(ValueError, match=r"2 \* n_way = 14 classes .* 21 for validation"):
        tiny_run(tmp_path, method="protonet", n_way=7)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["banks"])


def test_banks_are_drawn_once_and_a_damaged_one_is_refused(root, finished):
    banks = sorted((root / "banks").glob("*.npz"))
    times = [path.stat().st_mtime_ns for path in banks]
    tiny_run(root, method="protonet", optimizer="adam")
    assert [path.stat().st_mtime_ns for path in sorted((root / "banks").glob("*.npz"))] == times
    test_bank, val_bank = banks[0], banks[-1]
    content = test_bank.read_bytes()
    try:
        test_bank.write_bytes(content[:200])
        with pytest.raises(ValueError, match=r"test_bank-.*npz' to be readable .*Delete the file"):
            tiny_run(root, method="protonet", optimizer="adam")
        test_bank.write_bytes(val_bank.read_bytes())
        with pytest.raises(ValueError, match=r"test_bank-.*npz' to hold 30 episodes of this run \(got 20 of .*Delete"):
            tiny_run(root, method="protonet", optimizer="adam")
    finally:
        test_bank.write_bytes(content)


def test_a_class_of_the_users_own_is_named_in_the_config_and_checked(root):
    found = tiny_run(root, method="protonet", optimizer="fgsam", encoder=OneLayerNet)
    assert found.config["encoder"]["name"].endswith(":OneLayerNet")
    (check,) = found.results["encoder_checks"]
    assert check["num_hops"] == 1
    assert check["error"] < 1e-5
    assert load_run(found.directory, graph=tiny_graph()).evaluate() == found.test


def test_a_module_is_copied_and_asked_for_later(root):
    torch.manual_seed(0)
    module = GraphSAGE(40, 8, num_layers=2, out_channels=4)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = tiny_run(root, method="gpn", optimizer="adam", encoder=module)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with pytest.raises(ValueError, match="the encoder"):
        load_run(found.directory, graph=tiny_graph()).evaluate()
    assert load_run(found.directory, graph=tiny_graph(), encoder=module).evaluate() == found.test


def test_other_weights_in_a_module_are_another_run(root):
    names = set()
    for seed in range(2):
        torch.manual_seed(seed)
        encoder = GraphSAGE(40, 8, num_layers=1, out_channels=4)
        names.add(tiny_run(root, method="protonet", optimizer="adam", encoder=encoder, num_episodes=1).directory)
    assert len(names) == 2


def test_what_neither_weights_nor_text_of_a_module_show_is_another_run(root):
    names = set()
    for dropout in (0.0, 0.9):
        torch.manual_seed(0)
        encoder = GraphSAGE(40, 8, num_layers=2, out_channels=4, dropout=dropout)
        names.add(tiny_run(root, method="protonet", optimizer="adam", encoder=encoder, num_episodes=1).directory)
    assert len(names) == 2


def test_a_run_with_an_optimizer_that_no_config_can_name_opens_without_it(root):
    class Own(SAM):
        pass

    found = tiny_run(root, method="protonet", optimizer=Own)
    assert found.results["objects"] == ["graph", "optimizer"]
    assert load_run(found.directory, graph=tiny_graph()).evaluate() == found.test


def test_functions_make_encoders_and_classes_stand_for_their_names(root):
    made = tiny_run(root, method=ProtoNet, optimizer=SAM, encoder=lambda num_features: OneLayerNet(num_features, 4))
    assert made.results["objects"] == ["encoder", "graph"]
    assert made.config["method"]["name"] == "protonet"
    assert made.config["optimizer"]["name"] == "sam"


def test_an_encoder_without_peer_is_refused_under_fgsam_alone(tmp_path):
    with pytest.raises(ValueError, match=r"well-defined peer MLP .*EdgeConv"):
        tiny_run(tmp_path, method="protonet", optimizer="fgsam", encoder=DifferenceNet)
    assert tiny_run(tmp_path, method="protonet", optimizer="adam", encoder=DifferenceNet, num_episodes=1)


def test_row_coupled_modules_are_refused(tmp_path):
    with pytest.raises(ValueError, match="allow_inexact=True"):
        tiny_run(tmp_path, method="protonet", optimizer="adam", encoder=CoupledNet)


def test_an_unknown_option_names_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'patience'"):
        tiny_run(tmp_path, method="protonet", patiense=3)
    with pytest.raises(TypeError, match="'train' to be a mapping"):
        tiny_run(tmp_path, train=3)
    with pytest.raises(ValueError, match="Did you mean 'optimizer'"):
        tiny_run(tmp_path, optimiser="adam")


def test_objects_of_the_wrong_kind_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"'optimizer' to be a name or a class derived from .*SharpnessAware"):
        tiny_run(tmp_path, method="protonet", optimizer=torch.optim.Adam)
    with pytest.raises(TypeError, match="'method' to be a name or a class"):
        tiny_run(tmp_path, method=ProtoNet(lambda: nn.Linear(2, 2)))
    with pytest.raises(TypeError, match=r"make a torch\.nn\.Module"):
        tiny_run(tmp_path, method="protonet", encoder=lambda num_features: None)
    with pytest.raises(TypeError, match=r"'encoder' to be a name, a module, or .* \(got 3\)"):
        tiny_run(tmp_path, method="protonet", encoder=3)
    with pytest.raises(TypeError, match=r"'graph' to be a Graph, .*\(got Data\)\. Make one with Graph\.from_pyg"):
        run_module.run(Data())


def test_a_constructor_that_fails_is_named_with_its_call(tmp_path):
    with pytest.raises(
        ValueError, match=r":OneLayerNet to make a module when called as \(40, width=-1\) \(got RuntimeError: "
    ):
        tiny_run(tmp_path, method="protonet", encoder={"name": "tests.nets:OneLayerNet", "width": -1})


def test_a_graph_without_features_is_refused_with_the_way_out(tmp_path):
    graph = tiny_graph()
    bare = Graph.from_arrays(np.zeros((240, 0)), graph.edge_index, graph.labels, directed=False)
    with pytest.raises(ValueError, match=r"\(got 240 nodes with 0 features\)\. Set dataset\.features"):
        run_module.run(bare, **{**OPTIONS, "root": str(tmp_path)})


def test_more_queries_than_any_number_can_hold_are_a_fault(tmp_path):
    with pytest.raises(ValueError, match=r"classes with k_shot \+ num_query = 1\d+ nodes, .*got 0 of 12"):
        tiny_run(tmp_path, method="protonet", num_query=10**30)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_a_device_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"run\.device=cuda:1, 0 GPUs"):
        tiny_run(tmp_path, method="protonet", device="cuda:1")


def test_single_options_go_where_they_belong():
    config, _ = config_of_call(
        method="gpn",
        optimizer="fgsam_plus",
        options={"rho": 0.3, "variant": "fgsam", "hidden": 8, "num_episodes": 5, "root": "here", "split": 3},
    )
    assert (config.optimizer.options["rho"], config.method.options["variant"]) == (0.3, "fgsam")
    assert (config.encoder.options["hidden"], config.train.num_episodes) == (8, 5)
    assert (config.run.root, config.dataset.split, config.evaluate.num_episodes) == ("here", 3, 1000)


def test_entries_may_be_given_with_their_options():
    config, objects = config_of_call(encoder={"name": "sgc", "dim": 4}, optimizer={"name": "sam", "rho": 0.4})
    assert (config.encoder.name, config.encoder.options["dim"], config.optimizer.options["rho"]) == ("sgc", 4, 0.4)
    assert objects == {}


def test_double_precision_runs_in_double_precision(root):
    found = tiny_run(root, method="protonet", optimizer="adam", dtype="float64", num_episodes=2)
    assert load_run(found.directory, graph=tiny_graph()).evaluate() == found.test


def test_the_stored_config_gives_the_same_run(root, finished):
    stored = yaml.safe_load((finished.directory / "config.yaml").read_text())
    assert stored == finished.config
    assert stored["train"]["num_episodes"] == 20


def test_an_unwritable_root_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Choose another run\.root"):
        tiny_run(tmp_path / "file", method="protonet")


def test_execute_takes_what_a_config_cannot_name(root, finished):
    options = {key: value for key, value in OPTIONS.items() if key != "progress"}
    config, objects = config_of_call(
        tiny_graph(), method="protonet", optimizer="sam", options={**options, "root": str(root)}
    )
    assert execute(config, progress="none", **objects).directory == finished.directory
