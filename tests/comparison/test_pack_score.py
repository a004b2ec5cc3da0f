from __future__ import annotations

import json

import numpy as np
import pytest

from fgsam.comparison.pack import FORMAT, load_pack
from fgsam.comparison.pack_score import score_pack
from fgsam.comparison.sealed import write_sealed
from fgsam.comparison.statistics import mean_over_splits, paired_test

SPLITS = (0, 1, 2, 3, 4)
CLASSES = np.array([7, 3])
"""In the order of an episode's labels, so that labels 0 and 1 are no class ids."""


def answers(labels, rng, num_seeds, share):
    """Class ids of which about a share is right."""
    other = np.where(labels == 7, 3, 7)
    return np.where(rng.random((num_seeds, *labels.shape)) < share, labels, other)


def write_pack(path, **protocol):
    """Two parts and five splits, of 40 episodes with 10 queries; good is right in 80 %, bad in 60 %."""
    rng, arrays, splits = np.random.default_rng(0), {}, []
    for part in ("one", "two"):
        for split in SPLITS:
            key = f"{part}/{split}"
            labels = np.tile(CLASSES.repeat(5), (40, 1))
            for bank in ("val", "test"):
                arrays[f"{key}/{bank}/support"] = rng.integers(0, 99, (40, 2))
                arrays[f"{key}/{bank}/support_labels"] = np.tile(CLASSES, (40, 1))
                arrays[f"{key}/{bank}/query"] = rng.integers(0, 99, (40, 10))
                arrays[f"{key}/{bank}/query_labels"] = labels.copy()
            arrays[f"{key}/test/query_labels"][0, -2:] = -1
            arrays[f"{key}/answers/good"] = answers(labels, rng, 2, 0.8)
            arrays[f"{key}/answers/bad"] = answers(labels, rng, 1, 0.6)
            splits.append({"key": key, "part": part, "split": split, "digests": {}})
    about = {
        "title": "Toy",
        "task": "few_shot",
        "estimand": "What it is about.",
        "protocol": {"reference": "good", "test": "t", "margin": 0.5, "alpha": 0.05, "pooled": False, **protocol},
        "arms": ["good", "bad"],
        "parts": {"one": {}, "two": {}},
        "splits": splits,
        "versions": {},
    }
    write_sealed(path, FORMAT, {"about": np.asarray(json.dumps(about)), **arrays})
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_pack(tmp_path_factory.mktemp("pack") / "pack.npz")


@pytest.fixture
def mine(file):
    """Predictions that are right in about 80 %."""
    rng = np.random.default_rng(1)
    return {key: answers(one.test.query_labels, rng, 1, 0.8)[0] for key, one in load_pack(file).splits.items()}


def scored(file, folder, predictions):
    np.savez(folder / "mine.npz", **predictions)
    return score_pack(file, folder / "mine.npz")


def test_predictions_are_compared_with_every_arm_of_every_part_as_one_family(file, tmp_path, mine):
    found = scored(file, tmp_path, mine)
    claims = [(finding.part, str(finding.hypothesis)) for finding in found.findings]
    assert claims == [(part, f"yours above {arm}") for part in ("one", "two") for arm in ("good", "bad")]
    pack = load_pack(file)
    for finding in found.findings:
        one = [packed for packed in pack.splits.values() if packed.part == finding.part]
        # By hand: the share of right answers of each episode, queries that are only repeated left out.
        own = [by_hand(packed, mine[packed.key]) for packed in one]
        arm = finding.hypothesis.reference
        other = [np.mean([by_hand(packed, seed) for seed in packed.answers[arm]]) for packed in one]
        expected = dict(zip(SPLITS, np.subtract(own, other), strict=True))
        assert finding.differences == pytest.approx(expected, abs=1e-9)
        assert finding.mean == mean_over_splits(list(finding.differences.values()))
        assert finding.test == paired_test(list(finding.differences.values()))
    words = {finding.hypothesis.reference: finding.verdict.word for finding in found.findings}
    assert words == {"good": "undecided", "bad": "holds"}
    p_values = [finding.test.p_value for finding in found.findings]
    assert found.findings[int(np.argmin(p_values))].verdict.p_adjusted == pytest.approx(4 * min(p_values))


def by_hand(packed, predictions):
    hits = predictions == packed.test.query_labels
    return 100 * np.mean([hits[0, :8].mean(), *(episode.mean() for episode in hits[1:])])


def test_the_answers_of_an_arm_have_its_own_score(file, tmp_path):
    pack = load_pack(file)
    found = scored(file, tmp_path, {key: packed.answers["bad"][0] for key, packed in pack.splits.items()})
    for finding in found.findings:
        if finding.hypothesis.reference == "bad":
            assert set(finding.differences.values()) == {0.0}
        else:
            assert finding.verdict.word == "contradicted"
    assert found.scores["one"]["yours"] == pack.scores("one", "bad")


def test_a_pooled_comparison_is_about_the_mean_over_parts(tmp_path, mine):
    found = scored(write_pack(tmp_path / "pack.npz", pooled=True), tmp_path, mine)
    assert [finding.part for finding in found.findings] == [None, None]
    for split in SPLITS:
        both = [found.scores[part]["yours"][split] - found.scores[part]["bad"][split] for part in ("one", "two")]
        assert found.findings[1].differences[split] == pytest.approx(np.mean(both))
    assert "Mean over all parts, 5 splits" in str(found)


def test_the_table_tells_all_that_is_needed_to_read_it(file, tmp_path, mine):
    found = scored(file, tmp_path, mine)
    lines = str(found).splitlines()
    assert lines[0] == "one, 5 splits"
    assert lines[1].split("  ")[-1] == "verdict"
    mean = found.findings[1].mean
    assert lines[4].startswith("bad ")
    assert f"+{mean.mean:.2f} ± {mean.half_width:.2f}" in lines[4]
    assert lines[4].endswith("  holds")
    assert lines[-2] == f"Toy, task pack {load_pack(file).digest[:12]}. What it is about."
    assert "tested by 't' at level 0.05, Holm-adjusted over 4 claims; equivalent means within 0.5 points" in lines[-1]
    assert max(map(len, lines[:-2])) < 80


def test_repeated_queries_may_have_any_answer(file, tmp_path, mine):
    before = scored(file, tmp_path, mine)
    for values in mine.values():
        values[0, -2:] = -99
    assert scored(file, tmp_path, mine).scores == before.scores


def test_all_faults_are_told_at_once(file, tmp_path, mine):
    keys = list(mine)
    labels = np.arange(2).repeat(5)
    mine[keys[0]] = np.tile(labels, (40, 1))
    mine[keys[1]] = mine[keys[1]][1:]
    mine[keys[2]] = mine[keys[2]].astype(float)
    mine["one_3"] = mine.pop(keys[3])
    mine[keys[4]][5, 2] = 8
    with pytest.raises(ValueError, match="Expected") as caught:
        scored(file, tmp_path, mine)
    first, *faults = str(caught.value).splitlines()
    assert first == f"Expected '{tmp_path / 'mine.npz'}' to fit the pack '{file}' (got 6 faults)."
    assert [fault.partition(" (got")[0].partition(" (there")[0] for fault in faults] == [
        "- Expected no array 'one_3'. Did you mean 'one/3' or 'one/4' or 'one/2'?",
        "- Expected 'one/0' to hold class ids that support nodes of the episode have",
        "- Expected 'one/1' to have the shape [40, 10] of 'one/1/test/query'",
        "- Expected 'one/2' to hold class ids, whole numbers",
        "- Expected an array 'one/3'",
        "- Expected 'one/4' to hold class ids that support nodes of the episode have",
    ]
    assert "(got 1 others, the first 8 in episode 5, whose classes are 3, 7)" in faults[-1]
    assert "(got 398 others, the first 0 in episode 0, whose classes are 3, 7). Give class ids as in" in faults[1]


def test_files_that_are_no_predictions_are_refused(file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.npz' to be a readable file \(No such file"):
        score_pack(file, tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(ValueError, match=r"to be readable as plain numpy arrays .* Write it with numpy\.savez"):
        score_pack(file, tmp_path / "text.npz")
    np.savez(tmp_path / "objects.npz", **{"one/0": np.array([print, None])})
    with pytest.raises(ValueError, match="Python objects, which are never unpickled"):
        score_pack(file, tmp_path / "objects.npz")
