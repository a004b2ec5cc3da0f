"""No bank, checkpoint or own graph runs code; the tests of raw files, caches and conversions show the same of them."""

from __future__ import annotations

import hashlib
import io
import pickle

import numpy as np
import pytest
import torch

from fgsam.data import own
from fgsam.engine.checkpoint import MAGIC, load_checkpoint
from fgsam.episodes.bank import FORMAT, EpisodeBank
from tests.data.test_unpickle import KINDS, touching

every_kind = pytest.mark.parametrize("kind", KINDS)


def of_objects(call):
    array = np.empty(1, dtype=object)
    array[0] = call
    return array


@pytest.fixture
def mark(tmp_path):
    """A file that every payload would make."""
    path = tmp_path / "mark"
    yield path
    assert not path.exists()


@every_kind
def test_a_bank_runs_no_code(kind, mark, tmp_path):
    call, path = touching(mark)[kind], tmp_path / "bank.npz"
    np.savez(
        path, format=FORMAT, digest="0", classes=of_objects(call), support=of_objects(call), query=of_objects(call)
    )
    with pytest.raises(ValueError, match="never unpickled"):
        EpisodeBank.load(path)
    path.write_bytes(pickle.dumps(call))
    with pytest.raises(ValueError, match=r"bank\.npz"):
        EpisodeBank.load(path)


@every_kind
def test_a_checkpoint_runs_no_code(kind, mark, tmp_path):
    call, path = touching(mark)[kind], tmp_path / "checkpoint.fgsam"
    archive = io.BytesIO()
    torch.save({"weights": call}, archive)
    for payload in (archive.getvalue(), pickle.dumps(call, protocol=2)):
        path.write_bytes(MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
        with pytest.raises(ValueError, match="tensors and plain values only"):
            load_checkpoint(path)


@every_kind
def test_an_own_graph_runs_no_code(kind, mark, tmp_path):
    call, path = touching(mark)[kind], tmp_path / "graph.npz"
    np.savez(path, edge_index=np.zeros((2, 1), dtype=int), labels=of_objects(call))
    with pytest.raises(ValueError, match="never unpickled"):
        own.load(path)
