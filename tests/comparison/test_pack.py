from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from fgsam.comparison.executors.inline import Inline
from fgsam.comparison.grid_source import grid_of_call
from fgsam.comparison.pack import FORMAT, export_pack, load_pack
from fgsam.comparison.results import Results
from fgsam.comparison.sealed import read_sealed, write_sealed
from fgsam.comparison.study import Study
from fgsam.engine.record import content_hash
from tests.comparison.grids import SMALL, own_graph, small_grid


def finished(folder, **changes):
    study = Study(folder, small_grid(**changes))
    list(study.run(Inline()))
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A trained arm with two settings and two seeds, and a floor, in two parts."""
    folder = tmp_path_factory.mktemp("study")
    arms = [{"method": "gpn", "optimizer": "adam"}, {"method": "raw_lr"}]
    chosen = {"candidates": {"optimizer.lr": [0.001, 0.05]}, "seeds": 2}
    return finished(folder, arms=arms, vary={"episode.k_shot": [1, 2]}, splits=2, **chosen)


@pytest.fixture(scope="module")
def file(study, tmp_path_factory):
    path = tmp_path_factory.mktemp("pack") / "pack.npz"
    export_pack(study, path)
    return path


def copied(study, folder):
    shutil.copytree(study.folder, folder)
    return Study(folder, study.grid)


def test_a_pack_holds_the_scores_of_the_chosen_runs(study, file):
    pack, results = load_pack(file), Results.read(study)
    assert pack.arms == ("gpn/adam", "raw_lr")
    assert list(pack.splits) == [f"synthetic, k_shot {k}/{split}" for k in (1, 2) for split in (0, 1)]
    for part in pack.parts:
        for arm in pack.arms:
            assert pack.scores(part, arm) == pytest.approx(results.scores(part, arm), abs=1e-9)


def test_answers_are_right_as_often_in_every_episode_as_the_results_say(study, file):
    pack, results = load_pack(file), Results.read(study)
    for (part, arm, split), runs in results.chosen.items():
        packed = pack.splits[f"{part}/{split}"]
        assert packed.answers[arm].shape == (len(runs), 12, 8)
        assert np.allclose(packed.test.accuracies(packed.answers[arm]), [run.episodes for run in runs.values()])
        assert (packed.answers[arm][..., None] == packed.test.support_labels[:, None]).any(-1).all()
    assert len(results.chosen["synthetic, k_shot 1", "gpn/adam", 0]) == 2


def test_a_pack_says_what_it_is_about(study, file):
    pack = load_pack(file)
    assert (pack.title, pack.task) == ("Comparison", "few_shot")
    assert "other random class splits of the same graph" in pack.estimand
    assert (pack.protocol.reference, pack.protocol.test, pack.protocol.margin) == ("gpn/adam", "t", 0.5)
    part = pack.parts["synthetic, k_shot 2"]
    assert part["episode"]["k_shot"] == 2
    assert part["dataset"]["num_nodes"] == SMALL["num_nodes"]
    assert str(study.folder) not in json.dumps([*pack.parts.values(), pack.versions])
    packed = next(iter(pack.splits.values()))
    assert set(packed.digests) == {"data", "split", "val_bank", "test_bank"}
    own = next(iter(Results.read(study).records.values())).results["digests"]
    assert packed.digests == own
    assert set(np.unique(packed.test.query_labels)) <= set(packed.classes["meta_test"].tolist())
    assert set(np.unique(packed.val.query_labels)) <= set(packed.classes["meta_val"].tolist())
    assert packed.val.query.shape == (6, 8)


def test_numpy_alone_reads_the_episodes(file):
    labels = own_graph().labels.numpy()
    with np.load(file, allow_pickle=False) as pack:
        about = json.loads(str(pack["about"]))
        assert len(about["splits"]) == 4
        for split in about["splits"]:
            for bank in ("val", "test"):
                for name in ("support", "query"):
                    nodes, classes = (pack[f"{split['key']}/{bank}/{key}"] for key in (name, f"{name}_labels"))
                    assert np.array_equal(labels[nodes], classes)


def test_a_pack_is_exported_to_the_same_bytes(study, file, tmp_path):
    pack = export_pack(study, tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == file.read_bytes()
    assert pack.digest == load_pack(file).digest


def test_a_comparison_that_is_not_finished_is_refused(study, tmp_path):
    other = copied(study, tmp_path / "study")
    shutil.rmtree(Results.read(other).records[next(other.grid.cells())].directory)
    with pytest.raises(ValueError, match=r"finished comparison \(got 1 runs that are not done and 0 that failed"):
        export_pack(other, tmp_path / "pack.npz")
    assert not (tmp_path / "pack.npz").exists()


def test_a_result_that_the_weights_do_not_give_is_refused(study, tmp_path):
    other = copied(study, tmp_path / "study")
    run = next(iter(Results.read(other).chosen["synthetic, k_shot 1", "gpn/adam", 0].values()))
    content = json.loads((run.directory / "result.json").read_text())
    correct = content["results"]["test_correct"]
    correct[3] += 1 if correct[3] == 0 else -1
    content["digest"] = content_hash(content["results"])
    (run.directory / "result.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"to answer as its result says \(got another number .* in 1 of 12 episodes"):
        export_pack(other, tmp_path / "pack.npz")


def test_missing_weights_are_told(study, tmp_path):
    other = copied(study, tmp_path / "study")
    for path in other.folder.glob("runs/*/weights.fgsam"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"Expected .*weights\.fgsam to be there"):
        export_pack(other, tmp_path / "pack.npz")


def test_short_episodes_and_learners_that_adapt(tmp_path):
    arms = [{"method": {"name": "maml", "num_steps": 1}, "optimizer": "adam"}, {"method": "raw_lr"}]
    common = {"episode": {"n_way": 2, "k_shot": 1, "num_query": "all"}}
    study = finished(tmp_path / "study", graphs=[{**SMALL, "num_classes": 18}], arms=arms, common=common, splits=1)
    pack = export_pack(study, tmp_path / "pack.npz")
    (packed,) = pack.splits.values()
    assert (packed.test.query_labels == -1).any()
    for arm in pack.arms:
        assert pack.scores("synthetic", arm) == pytest.approx(Results.read(study).scores("synthetic", arm), abs=1e-9)


def test_a_graph_of_an_object_is_packed(tmp_path):
    study = finished(tmp_path / "study", graphs=[own_graph()], splits=1, arms=[{"method": "gpn"}, {"method": "raw_lr"}])
    pack = export_pack(study, tmp_path / "pack.npz")
    assert pack.scores("own", "gpn") == pytest.approx(Results.read(study).scores("own", "gpn"), abs=1e-9)


def test_node_classification_is_one_episode(tmp_path):
    common = {"encoder": {"hidden": 4}, "train": {"num_steps": 4, "val_every": 2}}
    arms = [{"encoder": ["gcn", "mlp"], "optimizer": "adam"}]
    grid = grid_of_call(task="node_classification", graphs=[SMALL], arms=arms, common=common, splits=2)
    study = Study(tmp_path / "study", grid)
    list(study.run(Inline()))
    pack, results = export_pack(study, tmp_path / "pack.npz"), Results.read(study)
    assert pack.task == "node_classification"
    assert "other divisions of the nodes" in pack.estimand
    for arm in pack.arms:
        assert pack.scores("synthetic", arm) == pytest.approx(results.scores("synthetic", arm), abs=1e-9)
    packed = pack.splits["synthetic/0"]
    nodes = [packed.test.support[0], packed.val.query[0], packed.test.query[0]]
    assert sorted(np.concatenate(nodes).tolist()) == list(range(300))
    assert not packed.classes


@pytest.mark.parametrize(
    ("entry", "change"),
    [
        ("about", lambda values: np.asarray("{}")),
        ("about", lambda values: np.asarray("no json")),
        ("synthetic, k_shot 1/0/test/query", None),
        ("synthetic, k_shot 1/0/test/query", lambda values: values[:-1]),
        ("synthetic, k_shot 1/0/test/support", lambda values: values.astype(float)),
        ("synthetic, k_shot 1/0/answers/raw_lr", lambda values: values[0]),
        ("synthetic, k_shot 1/1/answers/gpn/adam", None),
    ],
)
def test_a_whole_file_with_other_entries_is_refused(file, tmp_path, entry, change):
    arrays, _ = read_sealed(file, FORMAT, way_out="")
    values = arrays.pop(entry)
    write_sealed(tmp_path / "pack.npz", FORMAT, arrays if change is None else {**arrays, entry: change(values)})
    with pytest.raises(
        ValueError, match=r"^Expected '.*pack\.npz' to hold the entries of a task pack \(got .*Take another"
    ):
        load_pack(tmp_path / "pack.npz")


def test_damaged_packs_are_refused(file, tmp_path):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped").write_bytes(content)
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"to match its own digest .* Take another copy"):
        load_pack(tmp_path / "flipped")
    with pytest.raises(ValueError, match="it was cut off, or is another kind of file"):
        load_pack(tmp_path / "cut")
