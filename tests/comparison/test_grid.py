from __future__ import annotations

from pathlib import Path

import pytest

from fgsam.assets import asset_folder
from fgsam.comparison.grid import Hypothesis
from fgsam.comparison.grid_source import grid_of_call, load_grid
from fgsam.engine.faults import ConfigError
from tests.comparison.grids import SMALL, own_graph, small_grid


def written(folder: Path, text: str) -> Path:
    path = folder / "grid.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def faults_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_grid(written(folder, text))
    return [str(fault) for fault in caught.value.faults]


def test_lists_stand_for_every_combination():
    grid = grid_of_call(
        graphs=[SMALL],
        vary={"episode.k_shot": [1, 3], "episode.n_way": [2, 3]},
        arms=[{"method": ["gpn", "protonet"], "optimizer": ["adam", "sam"]}, {"method": "raw_lr"}],
        splits=3,
        seeds=2,
    )
    assert [part.label for part in grid.parts][:2] == ["synthetic, k_shot 1, n_way 2", "synthetic, k_shot 1, n_way 3"]
    labels = ["gpn/adam", "gpn/sam", "protonet/adam", "protonet/sam", "raw_lr"]
    assert [arm.label for arm in grid.arms] == labels
    cells = list(grid.cells())
    assert len(cells) == len(set(cells)) == 3 * 4 * (4 * 2 + 1)  # a floor has no seeds
    assert [cell.split for cell in cells] == sorted(cell.split for cell in cells)


def test_a_run_has_the_values_of_its_cell():
    grid = small_grid(vary={"episode.k_shot": [1, 3]}, candidates={"optimizer.lr": [0.1, 0.2]}, seeds=[4])
    for cell in grid.cells():
        config = grid.job(cell, "somewhere").config
        assert config.dataset.split == cell.split
        assert config.run.root == "somewhere"
        assert cell.part.endswith(f"k_shot {config.episode.k_shot}")
        if grid.arm(cell.arm).is_trained:
            assert config.train.seed == 4
            assert config.optimizer.lr == (0.1, 0.2)[cell.trial]
            assert cell.arm == f"{config.method.name}/{config.optimizer.name}"


def test_options_of_an_arm_win_over_shared_ones():
    grid = small_grid(
        common={"optimizer": {"lr": 0.1, "weight_decay": 0.0}},
        arms=[{"method": "gpn", "optimizer": [{"name": "sam", "lr": 0.3}, "adam"]}],
    )
    rates = {key[1]: (job.config.optimizer.lr, job.config.optimizer.weight_decay) for key, job in grid.jobs.items()}
    assert rates["gpn/sam"] == (0.3, 0.0)
    assert rates["gpn/adam"] == (0.1, 0.0)


def test_single_keys_are_shared_and_give_way_to_candidates():
    grid = small_grid(common={"n_way": 3, "lr": 0.5}, candidates={"optimizer.lr": [0.1, 0.2]})
    configs = [job.config for (_, arm, _), job in grid.jobs.items() if arm == "gpn/sam"]
    assert [config.optimizer.lr for config in configs] == [0.1, 0.2]
    assert {config.episode.n_way for config in configs} == {3}
    assert {job.config.optimizer.lr for job in small_grid(common={"lr": 0.5}).jobs.values()} == {0.5}


def test_single_keys_give_way_to_the_options_of_an_arm():
    grid = small_grid(common={"lr": 0.5}, arms=[{"method": "gpn", "optimizer": {"name": "sam", "lr": 0.1}}])
    assert grid.jobs["synthetic", "gpn/sam", 0].config.optimizer.lr == 0.1


def test_a_single_key_is_of_one_section_alone():
    train = {"num_episodes": 20, "train": {"val_every": 2}}
    grid = small_grid(common=train, vary={"evaluate.num_episodes": [30, 40]})
    assert {job.config.evaluate.num_episodes for job in grid.jobs.values()} == {30, 40}
    assert {job.config.train.num_episodes for job in grid.jobs.values() if job.config.is_trained} == {20}


def test_the_title_of_a_file_stays_with_its_runs(tmp_path):
    (tmp_path / "named.yaml").write_text("arms: [{method: gpn}]\n")
    grid = load_grid(tmp_path / "named.yaml")
    assert load_grid(written(tmp_path, grid.text)).title == grid.title == "named"


def test_a_floor_beside_several_optimizers_is_one_arm_with_as_many_trials():
    grid = small_grid(
        arms=[{"method": ["gpn", "sgc_lr"], "optimizer": ["adam", "sam"]}],
        candidates={"optimizer.lr": [0.1, 0.2, 0.3]},
    )
    assert [arm.label for arm in grid.arms] == ["gpn/adam", "gpn/sam", "sgc_lr"]
    assert grid.arm("sgc_lr").candidates == ({},)
    assert grid.jobs["synthetic", "sgc_lr", 0].config.method.num_trials == 3


def test_floors_are_added_where_there_is_none():
    arms = [{"method": "gpn", "optimizer": "adam"}]
    assert [arm.label for arm in small_grid(arms=arms).arms] == ["gpn/adam", "raw_lr", "sgc_lr", "sgc_prototype"]
    assert [arm.label for arm in small_grid(arms=arms, floors=False).arms] == ["gpn/adam"]
    assert [arm.label for arm in small_grid(arms=[*arms, {"method": "mlp"}, {"method": "raw_lr"}]).arms][-1] == "raw_lr"


def test_hypotheses_are_read_and_default_to_every_trained_arm_above_the_reference():
    grid = small_grid(hypotheses=["gpn/sam not below gpn/adam"], reference="raw_lr", pooled=True)
    assert grid.protocol.hypotheses == (Hypothesis("gpn/sam", "gpn/adam", "not below"),)
    assert (grid.protocol.reference, grid.protocol.pooled) == ("raw_lr", True)
    assert small_grid().protocol.hypotheses == (Hypothesis("gpn/sam", "gpn/adam"),)


def test_objects_stand_for_entries():
    graph = own_graph()
    grid = small_grid(graphs=[graph], arms=[{"method": "gpn", "optimizer": "adam"}])
    job = next(iter(grid.jobs.values()))
    assert job.objects == {"graph": graph}
    assert grid.parts[0].label == graph.name == "own"


def test_the_text_of_a_grid_makes_the_same_grid(tmp_path):
    grid = small_grid(vary={"episode.k_shot": [1, 3]}, candidates={"optimizer.lr": [0.1, 0.2]})
    again = load_grid(written(tmp_path, grid.text))
    assert list(again.cells()) == list(grid.cells())
    for cell in grid.cells():
        assert again.job(cell, "runs").config.content() == grid.job(cell, "runs").config.content()


def test_all_faults_are_told_with_their_lines(tmp_path):
    found = faults_of(
        tmp_path,
        """\
confg: coauthor_cs
common:
  episode: {n_way: 1}
  optimiser: {lr: 1}
  dataset: {split: 3}
graphs: [corra, coauthor_cs, coauthor_cs]
vary:
  episode.k_shott: [1]
arms:
  - method: gppn
    optimizer: [adam, samm]
    candidates:
      optimizer.rhoo: [0.1]
  - methd: gpn
splits: 30
""",
    )
    expected = {
        1: "Did you mean 'config'",
        3: "'episode.n_way' to be greater than or equal to 2",
        4: "Expected a section of a run's config (got 'optimiser')",
        5: "which sets it by 'splits'",
        6: "got dataset.name='corra'",
        8: "got episode.k_shott=1",
        10: "got method.name='gppn'",
        11: "got optimizer.name='samm'",
        13: "got optimizer.rhoo=0.1",
        14: "Did you mean 'method'",
    }
    for line, text in expected.items():
        assert any(text in fault and fault.endswith(f"line {line}]") for fault in found), (line, found)


def test_faults_between_arms_are_told_together(tmp_path):
    found = faults_of(
        tmp_path,
        """\
arms:
  - {method: gpn, optimizer: sam, candidates: {optimizer.rho: [0.1, 0.2]}}
  - {method: gpn, optimizer: adam}
reference: gcn
hypotheses: [gpn/adam better, gpn/sa above gpn/adam, gpn/sam above gpn/sam]
""",
    )
    assert len(found) == 5
    assert "as many candidates for every trained arm" in found[0]
    assert "got 'gcn'" in found[1]
    assert "'ARM above ARM'" in found[2]
    assert "Did you mean 'gpn/sam'" in found[3]
    assert "about two arms" in found[4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "Expected a grid: keys with values"),
        ("title: [\n", "Expected valid YAML"),
        ("arms: []\n", "Expected 'arms'"),
        ("title: nothing\n", "Expected 'arms' in a grid (there is none)."),
        ("arms:\n  - {method: gpn, optimizer: adam}\n  - {method: gpn, optimizer: adam}\n", "got 'gpn/adam' 2 times"),
        ("arms: [{method: gpn}]\narms: [{method: gpn}]\n", "Expected each key once (got 'arms' again)"),
        ("graphs: [coauthor_cs]\nsplits: 40\narms: [{method: gpn}]\n", "There are 0 to"),
        ("graphs: [coauthor_cs]\ncommon: {episode: {n_way: 7}}\narms: [{method: gpn}]\n", "Lower episode.n_way"),
        ("config: nowhere\narms: [{method: gpn}]\n", "got 'nowhere'"),
        ("vary: {lr: [1]}\narms: [{method: gpn}]\n", "Expected a key 'section.key' (got 'lr')"),
        ("arms: [3, 4]\n", "'arms.0'"),
        ("splits: [0, 0, 1]\narms: [{method: gpn}]\n", "Expected every one of 'splits' once"),
        ("test: wilcoxon\narms: [{method: gpn}]\n", "at least 9 class splits"),
        ("vary: {train.seed: [1, 2]}\narms: [{method: gpn}]\n", "Expected no 'train.seed' in a grid"),
        ("candidates: {train.seed: [1, 2]}\narms: [{method: gpn}]\n", "Expected no 'train.seed' in a grid"),
        ("common: {seed: 3}\narms: [{method: gpn}]\n", "Expected no 'seed' in a grid"),
        ("vary: {optimizer.rho: [1, 2]}\narms: [{optimizer: {name: sam, rho: 1}}]\n", "in 'vary' and in an arm"),
        ("vary: {optimizer.lr: [1, 2]}\ncandidates: {optimizer.lr: [1]}\narms: [{optimizer: sam}]\n", "in one place"),
        ("vary: {dataset.num_nodes: [1]}\ngraphs: [{num_nodes: 600}]\narms: [{method: gpn}]\n", "in a graph"),
        ("arms: [{method: sgc_lr, candidates: {method.num_trials: [1, 2]}}]\n", "which chooses by itself"),
        ("common: {n_wey: 3}\narms: [{method: gpn}]\n", "Did you mean 'n_way'"),
        ("arms:\n  - {method: gpn, label: a, optimizer: [adam, sam]}\n", "a label for a single arm"),
    ],
)
def test_bad_grids_have_one_clear_message(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        load_grid(written(tmp_path, text))
    assert message in str(caught.value)


@pytest.mark.parametrize("name", sorted(path.stem for path in (asset_folder("configs") / "compare").glob("*.yaml")))
def test_the_grids_of_the_package_are_valid(name):
    grid = load_grid(f"compare/{name}")
    assert grid.title != name
    assert any(not arm.is_trained for arm in grid.arms)
    assert len({len(arm.candidates) for arm in grid.arms if arm.is_trained}) == 1


def test_a_missing_file_names_near_ones():
    with pytest.raises(FileNotFoundError, match="compare/smoke"):
        load_grid("compare/smok")
