from __future__ import annotations

from typing import Any

import pytest

from fgsam.advice.probe import Gap, Gradients, Probes, Spread
from fgsam.advice.rules import Finding, findings_of
from fgsam.advice.timing import Costs, StepTime, Times
from fgsam.nn.peer import PeerLayer, PeerReport

PEER = PeerReport((PeerLayer("", "GCN", "defined", (), "Nothing."),), ())
NONE = PeerReport((PeerLayer("conv", "EdgeConv", "undefined", (), "Use another."),), ())


def times_of(sam: float, fgsam: float, fgsam_plus: float) -> Times:
    steps = {"sam": sam, "fgsam": fgsam, "fgsam_plus": fgsam_plus}
    return Times(1, Costs(1, 1, 1, 1), tuple(StepTime(name, 0, ms, ms, ms, None, None) for name, ms in steps.items()))


def findings(
    cosine: float = 0.3, moved: float = 0.0, alone: float = -0.1, times: tuple[float, ...] = (10, 6, 4), **changes: Any
) -> tuple[Finding, ...]:
    spread = Spread(cosine, cosine, cosine)
    gradients = Gradients(200, 50, spread, spread, spread, spread)
    probes = Probes(200, 90, 100, 0.3, 0.7, 0.7 + alone, 0.7 + moved, Gap(alone, 0.02), Gap(moved, 0.02))
    given = {"has_peer": True, "num_hops": 2, "times": times_of(*times), "gradients": gradients, "probes": probes}
    return findings_of(**{"peer": PEER, **given, **changes})


def suggested(found: tuple[Finding, ...]) -> tuple[str, str | None]:
    deciding = next(finding for finding in found if finding.favours)
    return deciding.about, deciding.favours


def test_without_a_peer_it_is_sam_and_the_layer_is_named():
    found = findings(peer=NONE, has_peer=False)
    assert suggested(found) == ("peer", "sam")
    assert "'conv' (EdgeConv)" in found[0].text


def test_coupled_rows_are_named():
    found = findings(peer=PeerReport(PEER.layers, ("norm (BatchNorm1d)",)), has_peer=False)
    assert "norm (BatchNorm1d)" in found[0].text


def test_an_encoder_that_reads_no_edges_is_its_own_peer():
    assert suggested(findings(num_hops=0)) == ("num_hops", "sam")


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ({}, ("saving", "fgsam_plus")),
        ({"times": (10, 6, 5.5)}, ("saving", "fgsam")),
        ({"times": (10, 9.5, 9.2)}, ("saving", "sam")),
        ({"cosine": -0.1}, ("cosine", "sam")),
        ({"moved": -0.1}, ("transfer", "sam")),
        ({"moved": -0.03}, ("saving", "fgsam_plus")),
        ({"moved": 0.1}, ("transfer", "fgsam_plus")),
        ({"moved": 0.1, "cosine": -0.1, "times": (10, 11, 11)}, ("transfer", "fgsam")),
        ({"moved": -0.1, "cosine": 0.9}, ("transfer", "sam")),
    ],
)
def test_the_first_finding_that_favours_an_optimizer_decides(case: dict[str, Any], expected: tuple[str, str]):
    assert suggested(findings(**case)) == expected


def test_every_finding_shows_the_number_it_rests_on():
    shown = {finding.about: finding.text for finding in findings(cosine=-0.12, moved=-0.11, alone=0.2)}
    assert "-0.12" in shown["cosine"]
    assert "-11.0 points" in shown["transfer"]
    assert "by 20.0 points" in shown["features"]
    assert "fgsam saves 40 %, fgsam_plus 60 %" in shown["saving"]


def test_features_alone_are_mentioned_only_where_they_clearly_do_better():
    assert "features" not in {finding.about for finding in findings(alone=0.03)}
