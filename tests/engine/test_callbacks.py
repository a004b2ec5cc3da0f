from __future__ import annotations

import sys

import pytest

from fgsam.engine.callbacks import Callback, make_callbacks
from fgsam.engine.progress import make_progress
from fgsam.engine.tensorboard import TensorBoard
from tests.engine.tiny import tiny_trainer


class Listener(Callback):
    def __init__(self):
        self.heard = []

    def on_start(self, trainer):
        self.heard.append(("start", trainer.step))

    def on_step(self, trainer):
        self.heard.append(("step", trainer.step))

    def on_validation(self, trainer):
        self.heard.append(("validation", trainer.history[-1].step))

    def on_end(self, trainer):
        self.heard.append(("end", trainer.step))


def test_a_callback_hears_every_event_in_order():
    listener = Listener()
    tiny_trainer(num_steps=3, val_every=2, callbacks=[listener]).fit()
    expected = [("start", 0), ("step", 1), ("validation", 2), ("step", 2), ("validation", 3), ("step", 3), ("end", 3)]
    assert listener.heard == expected


def test_names_and_objects_become_callbacks():
    listener = Listener()
    made = make_callbacks(["tensorboard", listener])
    assert isinstance(made[0], TensorBoard)
    assert made[1] is listener


def test_what_is_no_callback_is_refused():
    with pytest.raises(TypeError, match="names or Callback objects"):
        make_callbacks([print])
    with pytest.raises(ValueError, match="Did you mean 'tensorboard'"):
        make_callbacks(["tensorbord"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("single", ["tensorboard", Listener()])
def test_a_single_callback_is_refused_with_the_way_out(single):
    with pytest.raises(TypeError, match=r"'callbacks' to be a list .*Write callbacks=\[\.\.\.\]"):
        make_callbacks(single)


def test_tensorboard_gets_loss_and_accuracy(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tiny_trainer(num_steps=4, val_every=2, callbacks=[TensorBoard(every=2)], directory=tmp_path).fit()
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [point.step for point in events.Scalars("train/loss")] == [2, 4]
    assert [point.step for point in events.Scalars("validation/accuracy")] == [2, 4]


def test_tensorboard_needs_a_place(tmp_path):
    pytest.importorskip("tensorboard")
    with pytest.raises(RuntimeError, match="TensorBoard\\(directory="):
        tiny_trainer(callbacks=[TensorBoard()]).fit()


def test_a_missing_tensorboard_is_named_with_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(RuntimeError, match=r"pip install 'fgsam\[track\]'"):
        tiny_trainer(callbacks=[TensorBoard(tmp_path)]).fit()


def test_a_callback_that_cannot_start_is_heard_and_the_later_ones_are_left_alone():
    class Broken(Callback):
        def on_start(self, trainer):
            raise RuntimeError("no start")

    first, last = Listener(), Listener()
    with pytest.raises(RuntimeError, match="no start"):
        tiny_trainer(callbacks=[first, Broken(), *make_progress("lines"), last]).fit()
    assert first.heard == [("start", 0), ("end", 0)]
    assert last.heard == []
