"""Foreign pickles: their arrays are read, and nothing in them is run."""

from __future__ import annotations

import functools
import importlib
import operator
import os
import pickle
import subprocess

import numpy as np
import pytest
import scipy.sparse as sp

from fgsam.data import unpickle
from fgsam.data.reading import DamagedFileError
from fgsam.data.unpickle import unpickled_array, unpickled_lists, unpickled_matrix
from tests.data.miniature import old_pickle


class Call:
    """Pickled as a call of a function, which an ordinary unpickler makes."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def attribute(module, name):
    return Call(getattr, Call(importlib.import_module, module), name)


class CallOf:
    """Pickled as a call of what another call gives."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return operator.call, (self.function, *self.arguments)


def touching(mark):
    """Calls of many kinds, each of which creates the file ``mark``."""
    command = f"touch {mark}"
    module = Call(importlib.import_module, "os")
    inner = pickle.dumps(Call(os.system, command))
    return {
        "os.system": Call(os.system, command),
        "subprocess.call": Call(subprocess.call, ["touch", str(mark)]),
        "eval": Call(eval, f"__import__('os').system({command!r})"),
        "exec": Call(exec, f"open({str(mark)!r}, 'w').close()"),
        "builtins.open": Call(open, str(mark), "w"),
        "getattr of importlib": CallOf(attribute("os", "system"), command),
        "functools.partial": CallOf(functools.partial(os.system, command)),
        "operator.attrgetter": CallOf(CallOf(operator.attrgetter("system"), module), command),
        "operator.methodcaller": CallOf(operator.methodcaller("system", command), module),
        "pickle.loads": Call(pickle.loads, inner),
        "array of objects": np.array([Call(os.system, command)], dtype=object),
        "numpy.memmap": Call(np.memmap, str(mark), "uint8", "w+", 0, (1,)),
        "numpy.ndarray.tofile": Call(np.ndarray.tofile, np.arange(2), str(mark)),
        "copyreg": CallOf(attribute("copyreg", "__newobj__"), subprocess.Popen, f"touch {mark}"),
    }


KINDS = sorted(touching("nowhere"))
READERS = [unpickled_array, unpickled_matrix, unpickled_lists]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_no_call_is_made(kind, protocol, tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "ind.cora.allx"
    call = touching(mark)[kind]
    for content in (call, {0: [1, call]}, sp.csr_matrix(np.eye(2)), [call] * 3):
        if sp.issparse(content):
            content.extra = call
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        for read in READERS:
            with pytest.raises(DamagedFileError, match=r"ind\.cora\.allx' to (hold arrays alone|be whole)"):
                read(path)
    assert not mark.exists()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "copyreg"])
def test_an_ordinary_unpickler_makes_these_calls(kind, tmp_path):
    mark = tmp_path / "mark"
    made = pickle.loads(pickle.dumps(touching(mark)[kind], protocol=2))
    if hasattr(made, "close"):
        made.close()
    assert mark.exists()


def test_refusal_names_file_and_class(tmp_path):
    path = tmp_path / "ind.cora.graph"
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(DamagedFileError, match=r"ind.cora.graph' to hold arrays alone \(got os.system, never loaded\)"):
        unpickled_lists(path)


def test_a_pickle_cannot_change_the_stand_ins_of_the_next(tmp_path):
    path = tmp_path / "array"
    # A state that is a pair sets attributes on the object under it, here on the stand-in of a class itself.
    path.write_bytes(b"cnumpy.core.multiarray\n_reconstruct\n(N}U\x0c__setstate__I1\nstb.")
    with pytest.raises(DamagedFileError, match="array"):
        unpickled_array(path)
    path.write_bytes(old_pickle(np.arange(3.0)))
    assert unpickled_array(path).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int32).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3)),
        np.zeros((0, 3)),
        np.array(5, dtype=np.uint8),
    ],
    ids=["int32", "big-endian by column", "empty", "single"],
)
def test_arrays_of_old_and_new_pickles_are_read(array, tmp_path):
    path = tmp_path / "array"
    for content in (old_pickle(array), pickle.dumps(array, protocol=4)):
        path.write_bytes(content)
        assert np.array_equal(unpickled_array(path), array)


def test_matrices_of_old_and_new_pickles_are_read(tmp_path):
    path = tmp_path / "matrix"
    matrix = sp.csr_matrix(np.eye(3, 4))
    for content in (old_pickle(matrix), pickle.dumps(matrix, protocol=4)):
        path.write_bytes(content)
        assert (unpickled_matrix(path) != matrix).nnz == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.array(["a"]), "not of numbers"),
        (np.array([None]), "not of numbers"),
        (np.array([1.0, np.nan]), "not finite"),
        (np.array([1j]), "not of numbers"),
        ([1, 2], "list in place of array"),
        (np.dtype("f4"), "dtype in place of array"),
    ],
)
def test_anything_but_finite_numbers_is_refused(content, message, tmp_path):
    path = tmp_path / "array"
    path.write_bytes(pickle.dumps(content, protocol=4))
    with pytest.raises(DamagedFileError, match=rf"array' to be whole .*{message}"):
        unpickled_array(path)


def test_matrices_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "matrix"
    matrix = sp.csr_matrix(np.eye(3))
    matrix.indices = np.array([0, 7, 2])
    path.write_bytes(old_pickle(matrix))
    with pytest.raises(DamagedFileError, match="indices must be < 3"):
        unpickled_matrix(path)


@pytest.mark.parametrize("content", [{0: [1.5]}, {0: 1}, {"a": [1]}, {0: [True]}])
def test_lists_hold_whole_numbers_alone(content, tmp_path):
    path = tmp_path / "lists"
    path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DamagedFileError, match="lists"):
        unpickled_lists(path)


def test_only_names_that_planetoid_needs_are_known():
    assert {module.split(".")[0] for module, _ in unpickle._KINDS} == {
        "numpy", "scipy", "collections", "builtins", "__builtin__"
    }  # fmt: skip
