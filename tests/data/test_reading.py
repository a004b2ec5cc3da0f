import numpy as np
import pytest
import scipy.sparse as sp

from fgsam.data.reading import (
    DamagedFileError,
    csr_matrix,
    each_once,
    parsed_rows,
    read_npz,
    reading,
    rows_at,
    whole_numbers,
    without_loops,
)


def test_every_failure_names_the_file(tmp_path):
    message = rf"Expected '{tmp_path}/a' to be whole \(got ZeroDivisionError: division by zero\)\."
    with pytest.raises(DamagedFileError, match=message), reading(tmp_path / "a"):
        1 / 0  # noqa: B018


def test_missing_files_and_named_faults_pass_through(tmp_path):
    with pytest.raises(FileNotFoundError), reading(tmp_path / "a"):
        (tmp_path / "b").read_bytes()
    with pytest.raises(DamagedFileError, match=r"^b$"), reading(tmp_path / "a"):
        raise DamagedFileError("b")


def test_whole_numbers_keep_their_shape():
    numbers = whole_numbers(np.array([[1.0, 2.0]]), low=0, what="numbers")
    assert numbers.dtype == np.int64
    assert numbers.tolist() == [[1, 2]]


@pytest.mark.parametrize("values", [[0.5], [np.nan], [-1], [4], [np.inf]])
def test_other_numbers_are_refused(values):
    with pytest.raises(ValueError, match="labels should be whole numbers from 0 to 3, one is"):
        whole_numbers(values, low=0, high=3, what="labels")
    with pytest.raises(ValueError, match="labels are no numbers"):
        whole_numbers(["a"], low=0, what="labels")


def test_rows_go_to_their_nodes():
    x = rows_at(sp.csr_matrix([[1.0, 2.0], [3.0, 0.0]]), np.array([2, 0]), 3)
    assert x.toarray().tolist() == [[3, 0], [0, 0], [1, 2]]
    with pytest.raises(ValueError, match="2 rows of features for 1 different nodes"):
        rows_at(sp.csr_matrix(np.eye(2)), np.array([1, 1]), 3)


def test_compressed_rows_have_to_fit():
    matrix = sp.csr_matrix(np.eye(3))
    parts = matrix.data, matrix.indices, matrix.indptr
    assert (csr_matrix(*parts, np.array([3, 3])) != matrix).nnz == 0
    with pytest.raises(ValueError, match="indices must be < 2"):
        csr_matrix(*parts, np.array([3, 2]))


def test_edges_are_kept_once():
    edges = np.array([[1, 0, 1, 2], [0, 1, 0, 2]])
    assert each_once(edges, 3).tolist() == [[0, 1, 2], [1, 0, 2]]
    assert without_loops(edges).tolist() == [[1, 0, 1], [0, 1, 0]]
    with pytest.raises(ValueError, match="node numbers of edges should be whole numbers from 0 to 1, one is 2"):
        each_once(edges, 2)


@pytest.mark.parametrize("lines", [[], [""], ["1,2", "3"], ["1,a"]])
def test_tables_are_whole(lines):
    assert parsed_rows(["1,2", "3,4"], ",", np.int64).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match=r"no line|columns|convert"):
        parsed_rows(lines, ",", np.int64)


def test_objects_are_not_unpickled(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, wanted=np.arange(2), other=np.array([None], dtype=object))
    assert read_npz(path, ["wanted"])["wanted"].tolist() == [0, 1]
    with pytest.raises(DamagedFileError, match=r"key 'other' of '.*a\.npz' .*Python objects, which are never"):
        read_npz(path, ["other"])
