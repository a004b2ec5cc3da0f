import pytest
import torch

from fgsam.nn.appnp import APPNP
from fgsam.nn.encoders import field_of
from fgsam.nn.gprgnn import GPRGNN
from fgsam.nn.mlp import MLP
from tests.twins.graphs import random_graph

TARGETS = [7, 3, 39, 1]  # 39 is isolated


def same_weights(source: torch.nn.Module, target: torch.nn.Module) -> None:
    target.layers.load_state_dict(source.layers.state_dict())


@pytest.mark.parametrize("teleport", [0.0, 0.1, 0.5, 1.0])
def test_before_training_it_is_personalised_pagerank(teleport):
    encoder, graph = GPRGNN(6, teleport=teleport, num_hops=4).double().eval(), random_graph()
    appnp = APPNP(6, teleport=teleport, num_hops=4).double().eval()
    same_weights(encoder, appnp)
    assert float(encoder.gamma.detach().sum()) == pytest.approx(1.0)
    rows = encoder(field_of(encoder, graph, TARGETS))
    wanted = appnp(field_of(appnp, graph, TARGETS))
    torch.testing.assert_close(rows, wanted, rtol=1e-6, atol=1e-6)  # gamma is drawn up in single precision


def test_the_peer_is_the_mlp_times_the_sum_of_gamma():
    encoder, graph = GPRGNN(6).double().eval(), random_graph()
    mlp = MLP(6).double().eval()
    same_weights(encoder, mlp)
    torch.nn.init.normal_(encoder.gamma)
    rows = encoder(field_of(encoder, graph, TARGETS, peer=True))
    torch.testing.assert_close(rows, encoder.gamma.sum() * mlp(graph.field(TARGETS, 0)), rtol=0, atol=1e-13)


def test_every_step_learns_its_own_weight():
    encoder, graph = GPRGNN(6, num_hops=3).double().eval(), random_graph()
    encoder(field_of(encoder, graph, TARGETS)).square().sum().backward()
    assert encoder.gamma.grad.unique().numel() == 4


@pytest.mark.parametrize("options", [{"num_hops": 0}, {"teleport": -0.1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"Expected '{next(iter(options))}' to be"):
        GPRGNN(6, **options)
