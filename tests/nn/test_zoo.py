"""Each of PyTorch Geometric's layers and models under FGSAM: what is expected of it, by name."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch_geometric.nn as pyg
from torch import nn

from benchmarks.zoo import Finding, build, convolutions, find, whole_models
from fgsam.nn.module import ModuleEncoder
from fgsam.nn.peer import check_peer, peer_report
from fgsam.nn.probing import copied_module

PAGE = Path(__file__).parents[2] / "docs" / "results" / "zoo.md"

STEPS = {
    "defined": """AGNNConv APPNP ChebConv ClusterGCNConv EGConv FAConv FeaStConv GATConv GATv2Conv GCN2Conv GCNConv
        MixHopConv PDNConv SGConv SSGConv SuperGATConv GCN GAT""",
    "self-loop": """ARMAConv CGConv FiLMConv GatedGraphConv GeneralConv GINConv GraphConv HypergraphConv LEConv LGConv
        PNAConv ResGatedGraphConv SAGEConv SimpleConv TAGConv TransformerConv WLConvContinuous GraphSAGE GIN PNA""",
    "row-wise, defined": "AntiSymmetricConv",
    "defined, row-wise": "RECT_L",
    "self-loop, row-wise": "DirGNNConv",
}
REFUSED = {
    "MFConv": "'module', a MFConv.*degree 1 alone: use GraphConv",
    "EdgeConv": "'module', a EdgeConv.*differences of rows.*use SAGEConv or GraphConv",
    "EdgeCNN": "'convs.0', a EdgeConv.*use SAGEConv or GraphConv",
    "LINKX": "'edge_lin', a SparseLinear.*belong to the nodes of one graph.*use shared weights",
    "GENConv": r"BatchNorm1d.*as torch\.nn\.LayerNorm does.*or pass allow_inexact=True",
    "GPSConv": "leave out attention and pooling over the whole graph, or pass allow_inexact=True",
    "GraphUNet": "leave out attention and pooling over the whole graph, or pass allow_inexact=True",
    "PMLP": r"norm \(BatchNorm1d\).*as torch\.nn\.LayerNorm does",
}
OTHER_FORM = """MessagePassing GINEConv RGCNConv FastRGCNConv RGATConv SignedConv DNAConv PointNetConv GMMConv NNConv
    PPFConv PointTransformerConv WLConv HGTConv HEATConv HeteroConv HANConv PointGNNConv MeshCNNConv MetaLayer
    AttentiveFP NeuralFingerprint SGFormer Polynormer ARLinkPredictor"""
EXTENSIONS = """CuGraphSAGEConv CuGraphGATConv CuGraphRGCNConv FusedGATConv GravNetConv SplineConv DynamicEdgeConv XConv
    PANConv"""
"""Classes that need pyg-lib, torch-sparse, cugraph or dgNN; where one is installed, any outcome will do."""

DEAD = {
    "AGNNConv": "beta",
    "ChebConv": "lins.1.weight",
    "FeaStConv": "u.weight",
    "GATConv": "att_dst att_src",
    "GATv2Conv": "att lin_r.bias lin_r.weight",
    "SuperGATConv": "att_l att_r",
    "TransformerConv": "lin_key.weight lin_query.bias lin_query.weight",
    "GAT": "convs.0.att_dst convs.0.att_src convs.1.att_dst convs.1.att_src",
}
UNUSED = {
    "ARMAConv": "weight",  # of the layers after the first, of which there are none
    "PDNConv": "mlp.0.weight mlp.0.bias mlp.2.weight mlp.2.bias",  # reads edge_attr
    "DirGNNConv": "conv_in.lin_r.weight conv_out.lin_r.weight",  # its own linear map stands in for them
}

VERDICTS = {name: verdict for verdict, names in STEPS.items() for name in names.split()}
KINDS = {kind.__name__: kind for kind in [*convolutions(), *whole_models()]}


@pytest.fixture(scope="module")
def zoo() -> dict[str, Finding]:
    return {name: find(kind) for name, kind in KINDS.items()}


def test_every_class_has_one_expected_outcome():
    expected = [*VERDICTS, *REFUSED, *OTHER_FORM.split(), *EXTENSIONS.split()]
    assert sorted(expected) == sorted(KINDS)  # as lists: no class twice
    assert {*DEAD, *UNUSED} <= {*VERDICTS}


@pytest.mark.parametrize("name", VERDICTS)
def test_it_takes_three_steps(name: str, zoo: dict[str, Finding]):
    finding = zoo[name]
    assert (finding.outcome, ", ".join(finding.verdicts)) == ("steps", VERDICTS[name]), finding.reason
    assert finding.dead == tuple(DEAD.get(name, "").split())
    assert finding.still == tuple(UNUSED.get(name, "").split())
    before, after = finding.losses
    assert math.isfinite(before)
    assert after < before


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_advice(name: str, zoo: dict[str, Finding]):
    assert zoo[name].outcome == "refused"
    with pytest.raises(ValueError, match=REFUSED[name]):
        check_peer(build(KINDS[name]), 8)


@pytest.mark.parametrize("name", OTHER_FORM.split())
def test_another_form_is_refused_in_words(name: str, zoo: dict[str, Finding]):
    assert zoo[name].outcome == "other form"
    way_out = r"(?s)^Expected .*(forward=lambda|no tuples|choose a layer)"
    with pytest.raises((ValueError, TypeError), match=way_out):
        check_peer(build(KINDS[name]), 8)
    if name != "MeshCNNConv":  # which runs on some graphs by accident
        with pytest.raises((ValueError, TypeError), match=way_out):
            ModuleEncoder(build(KINDS[name]), 8)


@pytest.mark.parametrize("name", EXTENSIONS.split())
def test_what_is_not_installed_says_what_it_needs(name: str, zoo: dict[str, Finding]):
    finding = zoo[name]
    if finding.outcome != "not installed":
        pytest.skip(f"the extension of {name} is installed")
    assert "requires '" in finding.reason or "No module named '" in finding.reason


def test_the_page_of_results_says_the_same(zoo: dict[str, Finding]):
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    steps = {row[0]: (row[1], row[2]) for row in rows if row[0] in VERDICTS}
    assert steps == {name: (VERDICTS[name], ", ".join(DEAD.get(name, "-").split())) for name in VERDICTS}
    reasons = {row[0]: row[-1].strip("`") for row in rows if row[0] in KINDS and row[0] not in VERDICTS}
    assert {**reasons, **{name: zoo[name].reason for name in EXTENSIONS.split()}} == {
        name: zoo[name].reason for name in KINDS if name not in VERDICTS
    }


def test_a_relation_is_handed_over_by_a_function():
    layer = pyg.RGCNConv(8, 4, num_relations=2)
    report = check_peer(layer, 8, forward=lambda m, f: m(f.dense_x(), f.edge_index, f.edge_index[0] % 2))
    assert [entry.kind for entry in report.layers] == ["RGCNConv"]


def test_a_module_that_keeps_tensors_of_its_last_pass_can_be_copied():
    layer = pyg.SuperGATConv(8, 4)
    rows = layer(torch.randn(3, 8), torch.arange(3).repeat(2, 1))
    copied = copied_module(nn.Sequential(layer))
    assert torch.equal(copied[0].lin.weight, layer.lin.weight)
    assert copied[0].lin.weight is not layer.lin.weight
    (rows.sum() + layer.get_attention_loss()).backward()  # the original still has its graph
    assert layer.att_l.grad is not None
    assert peer_report(layer).is_defined


@pytest.mark.parametrize("seed", range(6))
def test_pooling_is_found_whatever_the_weights(seed: int):
    torch.manual_seed(seed)
    assert peer_report(build(pyg.GraphUNet), 8).coupled == ("GraphUNet",)
