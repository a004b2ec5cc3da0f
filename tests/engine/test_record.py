from __future__ import annotations

import errno
import json
import logging
import os
import threading

import pytest
import yaml

from fgsam.engine import record
from fgsam.engine.checkpoint import load_checkpoint, save_checkpoint
from fgsam.engine.interrupts import Interrupted
from fgsam.engine.record import Keeper, RunDirectory, content_hash, fingerprint, make_folder
from tests.engine.test_train import StopAfter, digest
from tests.engine.tiny import tiny_trainer


@pytest.fixture
def files(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    with directory.locked():
        directory.write_config({"train": {"seed": 0}})
    return directory


def kept_trainer(files, config_hash="hash", **options):
    keeper = Keeper(files, config_hash)
    trainer = tiny_trainer(callbacks=[keeper, *options.pop("callbacks", [])], directory=files.path, **options)
    keeper.restore(trainer)
    return trainer, keeper


def stopped(files, num_steps, *, save_at=None):
    stop = StopAfter(num_steps)
    trainer, keeper = kept_trainer(files, callbacks=[stop])
    real = stop.on_step

    def on_step(trainer):
        real(trainer)
        if trainer.step == save_at:
            keeper.save(trainer)

    stop.on_step = on_step
    trainer.fit(stop)
    return trainer, keeper


def log_lines(files):
    return [json.loads(line) for line in files.log.read_text().splitlines()]


def test_the_hash_sees_every_value_and_no_order():
    assert content_hash({"a": 1, "b": [1, 2]}) == content_hash({"b": [1, 2], "a": 1})
    assert content_hash({"a": 1}) != content_hash({"a": 1.5})
    assert content_hash({"a": [1, 2]}) != content_hash({"a": [2, 1]})


def test_the_directory_holds_the_resolved_config(files):
    assert yaml.safe_load(files.config.read_text()) == {"train": {"seed": 0}}


def test_a_result_comes_back_and_a_changed_one_is_refused(files):
    assert files.read_result() is None
    files.write_result({"test_accuracy": 0.5}, {"seconds": 1.0}, {})
    assert files.read_result()["results"] == {"test_accuracy": 0.5}
    text = files.result.read_text()
    for changed in (text.replace("0.5", "0.9"), text[:-20], "{}", "[]", ""):
        files.result.write_text(changed)
        with pytest.raises(ValueError, match="match its own digest"):
            files.read_result()


def test_a_result_of_another_format_is_not_called_damaged(files):
    files.write_result({"test_accuracy": 0.5}, {"seconds": 1.0}, {})
    files.result.write_text(files.result.read_text().replace(record.FORMAT, "fgsam-result 9"))
    with pytest.raises(ValueError, match=r"in the format 'fgsam-result 1' \(got 'fgsam-result 9'\).*another version"):
        files.read_result()


@pytest.mark.parametrize("text", [None, "", "a: [1", "x: 1", "run: 3"])
def test_a_config_that_is_missing_or_damaged_is_named_with_the_way_out(files, text):
    files.config.unlink()
    if text is not None:
        files.config.write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml to hold the config of this run .*Delete it"):
        files.read_config()


def test_going_on_from_a_checkpoint_repeats_nothing_in_the_log_and_changes_no_bit(files, tmp_path):
    whole_files = RunDirectory(tmp_path / "whole")
    make_folder(whole_files.path)
    whole, _ = kept_trainer(whole_files)
    whole.fit()
    # Killed at step 13 with the last checkpoint at step 7: six lines of the log have no checkpoint.
    stopped(files, 13, save_at=7)
    assert len([line for line in log_lines(files) if "loss" in line]) == 13
    resumed, _ = kept_trainer(files)
    assert resumed.step == 7
    assert len([line for line in log_lines(files) if "loss" in line]) == 7
    resumed.fit()
    assert digest(resumed) == digest(whole)
    strip = [{key: value for key, value in line.items() if key != "seconds"} for line in log_lines(files)]
    assert strip == [{key: value for key, value in line.items() if key != "seconds"} for line in log_lines(whole_files)]


def test_a_start_without_checkpoint_empties_the_log(files):
    stopped(files, 4)
    trainer, _ = kept_trainer(files)
    assert trainer.step == 0
    assert log_lines(files) == []


def test_checkpoints_come_by_the_clock(files, monkeypatch):
    monkeypatch.setattr(record, "SAVE_SECONDS", 0.0)
    trainer, keeper = kept_trainer(files)
    saved = []
    real = keeper.save
    monkeypatch.setattr(keeper, "save", lambda trainer: (saved.append(trainer.step), real(trainer)))
    trainer.fit()
    assert saved == list(range(1, 21))


def test_a_checkpoint_of_another_run_is_refused(files):
    trainer, keeper = stopped(files, 2)
    keeper.save(trainer)
    with pytest.raises(ValueError, match=r"belong to this run .* Delete it"):
        kept_trainer(files, config_hash="another")


@pytest.mark.parametrize("change", [{"trainer": {"method": {}}}, {"trainer": None}, {"fingerprints": None}])
def test_a_checkpoint_with_another_content_is_refused(files, change):
    trainer, keeper = stopped(files, 2)
    keeper.save(trainer)
    save_checkpoint(files.checkpoint, {**load_checkpoint(files.checkpoint), **change})
    with pytest.raises(ValueError, match=r"checkpoint\.fgsam to hold the state of these nets .*Delete it"):
        kept_trainer(files)


def test_other_versions_are_told_and_recorded(files, monkeypatch, caplog):
    trainer, keeper = stopped(files, 2)
    keeper.save(trainer)
    changed = {**fingerprint(), "torch": "9.9", "cpu": "another"}
    monkeypatch.setattr(record, "fingerprint", lambda: changed)
    with caplog.at_level(logging.WARNING):
        _, resumed = kept_trainer(files)
    assert "begun with another torch, cpu" in caplog.text
    assert resumed.fingerprints == [keeper.fingerprints[0], changed]


def test_the_lock_waits_and_says_so(files, caplog):
    order = []

    def second():
        with RunDirectory(files.path).locked():
            order.append("second")

    with caplog.at_level(logging.WARNING), files.locked():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
    assert "waiting for its result" in caplog.text


def test_waiting_can_be_given_up(files):
    with files.locked(), pytest.raises(Interrupted, match="another process works"):  # noqa: SIM117
        with RunDirectory(files.path).locked(lambda: True):
            pass


def test_what_a_killed_writer_left_is_removed(files):
    part = files.path / ".checkpoint.fgsam.abc.part"
    part.write_bytes(b"half")
    with files.locked():
        assert not part.exists()


def test_an_impossible_folder_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"folder that can be made .* Choose another run\.root"):
        make_folder(tmp_path / "file" / "runs")


def test_a_log_on_a_full_disk_is_one_clear_error(files):
    trainer, keeper = stopped(files, 2)
    keeper._log = open("/dev/full", "w")  # noqa: SIM115
    keeper.on_step(trainer)
    with pytest.raises(OSError, match=r"log\.jsonl' to be writable \(No space left on device\)"):
        keeper.save(trainer)
    with pytest.raises(OSError, match=r"log\.jsonl' to be writable \(No space left on device\)"):
        keeper.on_end(trainer)


def test_a_full_disk_is_one_clear_error_and_leaves_the_old_checkpoint(files, monkeypatch):
    trainer, keeper = stopped(files, 2)
    keeper.save(trainer)
    before = files.checkpoint.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    trainer.step = 3
    with pytest.raises(OSError, match=r"writable \(No space left on device\)"):
        keeper.save(trainer)
    assert files.checkpoint.read_bytes() == before
    assert not list(files.path.glob(".*.part"))
