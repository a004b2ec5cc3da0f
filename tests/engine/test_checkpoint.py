from __future__ import annotations

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from fgsam.engine.checkpoint import MAGIC, load_checkpoint, save_checkpoint, weights_digest

CONTENT = {"weights": {"w": torch.arange(6.0).reshape(2, 3)}, "step": 3, "history": [1.5, None, "text"]}


@pytest.fixture
def path(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.fgsam", CONTENT)
    return tmp_path / "checkpoint.fgsam"


def test_what_is_saved_comes_back(path):
    content = load_checkpoint(path)
    assert torch.equal(content["weights"]["w"], CONTENT["weights"]["w"])
    assert content["step"] == 3
    assert content["history"] == [1.5, None, "text"]


def test_a_file_cut_anywhere_is_refused(path):
    whole = path.read_bytes()
    for length in np.linspace(len(MAGIC), len(whole) - 1, 12).astype(int):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut short or was changed .* delete it and run again"):
            load_checkpoint(path)


def test_one_flipped_bit_anywhere_is_refused(path):
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(len(MAGIC), len(whole), 60):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(place % 8)
        path.write_bytes(bytes(changed))
        with pytest.raises(ValueError, match="match its own sha256"):
            load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"hello, this is no checkpoint", b"PK\x03\x04" + bytes(40)])
def test_a_foreign_file_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="to be a checkpoint of fgsam"):
        load_checkpoint(path)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_no_code_of_a_file_is_run(path, tmp_path, monkeypatch):
    import hashlib

    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    torch.save({"weights": Bomb()}, buffer)
    for payload in (buffer.getvalue(), pickle.dumps(Bomb(), protocol=2)):
        path.write_bytes(MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
        with pytest.raises(ValueError, match="tensors and plain values only"):
            load_checkpoint(path)
    assert not (tmp_path / "exploded").exists()


def test_the_payload_is_an_archive_that_torch_alone_can_read(path):
    payload = path.read_bytes()[len(MAGIC) + 65 :]
    assert zipfile.is_zipfile(io.BytesIO(payload))
    assert torch.load(io.BytesIO(payload), weights_only=True)["step"] == 3


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.fgsam"):
        load_checkpoint(tmp_path / "nowhere.fgsam")


def test_the_digest_sees_names_types_shapes_and_bits():
    base = {"a": torch.zeros(4), "b": torch.ones(2)}
    others = [
        {"a": torch.zeros(4), "c": torch.ones(2)},
        {"a": torch.zeros(4, dtype=torch.float64), "b": torch.ones(2)},
        {"a": torch.zeros(2, 2), "b": torch.ones(2)},
        {"a": -torch.zeros(4), "b": torch.ones(2)},
    ]
    assert len({weights_digest(weights) for weights in [base, *others]}) == 5
    assert weights_digest(dict(reversed(base.items()))) == weights_digest(base)


def test_the_digest_takes_scalars_and_views():
    whole = torch.arange(6.0).reshape(2, 3)
    assert weights_digest({"n": torch.tensor(3)}) != weights_digest({"n": torch.tensor(4)})
    assert weights_digest({"w": whole.t()}) == weights_digest({"w": whole.t().contiguous()})
