from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.nn import GAT, GCN, PNAConv

from fgsam.engine import identity
from fgsam.engine.identity import module_digest, source_digest
from fgsam.nn.module import ModuleEncoder


def digest(make):
    torch.manual_seed(0)
    return module_digest(make())


def scaled(factor):
    return lambda module, field: factor * module(field.dense_x(), field.edge_index)[: field.num_targets]


class Buffered(nn.Linear):
    def __init__(self, value):
        super().__init__(2, 2)
        self.register_buffer("mask", torch.full((2,), value), persistent=False)


class Own(nn.Linear):
    def __init__(self, values):
        super().__init__(2, 2)
        self.values = values


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda: GCN(4, 8, 2, dropout=0.0), lambda: GCN(4, 8, 2, dropout=0.5)),
        (lambda: GCN(4, 8, 2, act="relu"), lambda: GCN(4, 8, 2, act="elu")),
        (lambda: GAT(4, 8, 2, negative_slope=0.1), lambda: GAT(4, 8, 2, negative_slope=0.2)),
        (lambda: Own({"a": [1.0]}), lambda: Own({"a": [2.0]})),
        (lambda: Own(torch.ones(2)), lambda: Own(torch.zeros(2))),
        (lambda: Own(np.ones(2)), lambda: Own(np.zeros(2))),
        (lambda: Buffered(1.0), lambda: Buffered(2.0)),
        (
            lambda: ModuleEncoder(GCN(4, 8, 2), 4, forward=scaled(1.0)),
            lambda: ModuleEncoder(GCN(4, 8, 2), 4, forward=scaled(2.0)),
        ),
    ],
    ids=["dropout", "activation", "slope", "values", "tensor", "array", "buffer", "call"],
)
def test_whatever_a_module_computes_with_enters(first, second):
    assert digest(first) == digest(first)
    assert digest(first) != digest(second)


class Child(Own):
    """Nothing of its own."""


def test_the_source_of_a_foreign_base_enters(monkeypatch):
    before = source_digest(Child)
    text = identity._own_source
    monkeypatch.setattr(identity, "_own_source", lambda named: text(named) + "# changed" * (named is Own))
    assert source_digest(Child) != before
    assert source_digest(Buffered) == source_digest(Buffered)


def net():
    """One with a set, whose order is another in every process."""
    parts = [GAT(4, 8, 2), Own(set("abcdefgh")), PNAConv(4, 8, ["mean"], ["identity"], torch.ones(3))]
    modules = nn.ModuleList(parts)
    modules.call = scaled(2.0)
    return modules


def test_another_process_finds_the_same_digest():
    program = "from tests.engine.test_identity import digest, net; print(digest(net))"
    environment = {**os.environ, "PYTHONHASHSEED": "random"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest(net)
