"""Model-agnostic meta-learning on graphs."""

from __future__ import annotations

from fgsam.methods.adapting import Adapting


class MAML(Adapting):
    """Learns weights from which a few gradient steps on the support nodes lead to a good classifier.

    With a GCN as the encoder this is Meta-GCN, the Meta-GNN of the comparison with FGSAM: the whole adaptation is one
    loss, repeated on the episode's rows alone in a peer pass. Public code on graphs is first order throughout, and
    switches dropout off for good after the first episode; here it stays as the mode says.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.
        num_steps: Number of inner steps.
        inner_lr: Size of an inner step; a head that starts at zero may want more, such as the 0.5 of Meta-GNN's code.
        order: ``"first"`` takes the inner gradients as constants, ``"second"`` differentiates through them.
        num_outputs: Learn a start of the head for each of so many classes, as published; it then depends on how the
            classes of an episode are numbered. By default the head starts at zero.

    Source:
        Finn et al., Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks, 2017, Algorithm 2. On graphs
        Zhou et al., Meta-GNN: On Few-shot Node Classification in Graph Meta-learning, 2019, whose code takes ten steps
        of 0.5; the code released with FGSAM takes steps of 0.1.
    """
