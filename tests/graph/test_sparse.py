import copy
import pickle

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import func
from torch.autograd import forward_ad

from fgsam.graph.sparse import SparseMatrix


@pytest.fixture
def matrix():
    return SparseMatrix.from_scipy(scipy.sparse.random(7, 5, density=0.4, random_state=0, dtype=np.float64))


@pytest.fixture
def dense():
    return torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_product_equals_the_dense_product(matrix, dense):
    torch.testing.assert_close(matrix.product(dense), matrix.dense() @ dense, rtol=0, atol=1e-14)


def test_first_and_second_derivatives_pass_gradcheck(matrix, dense):
    dense.requires_grad_()
    assert torch.autograd.gradcheck(matrix.product, (dense,), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(lambda d: matrix.product(d) ** 2, (dense,))


@pytest.mark.parametrize("transform", ["grad", "jvp", "jvp of grad", "grad of grad", "vmap", "hessian"])
def test_product_works_under_torch_func(matrix, dense, transform):
    full = matrix.dense()
    tangent = torch.ones_like(dense)

    def losses(product):
        return lambda d: product(d).tanh().pow(2).sum()

    def apply(product):
        f = losses(product)
        return {
            "grad": lambda: func.grad(f)(dense),
            "jvp": lambda: func.jvp(f, (dense,), (tangent,))[1],
            "jvp of grad": lambda: func.jvp(func.grad(f), (dense,), (tangent,))[1],
            "grad of grad": lambda: func.grad(lambda d: func.grad(f)(d).pow(2).sum())(dense),
            "vmap": lambda: func.vmap(product, in_dims=1, out_dims=1)(dense.unsqueeze(1).expand(5, 4, 3)),
            "hessian": lambda: func.hessian(f)(dense),
        }[transform]()

    torch.testing.assert_close(apply(matrix.product), apply(lambda d: full @ d), rtol=0, atol=1e-12)


def test_a_product_without_a_graph_has_the_same_bits_and_still_carries_tangents(matrix, dense):
    dense.requires_grad_()
    recorded = matrix.product(dense)
    with torch.no_grad(), forward_ad.dual_level():
        bare = matrix.product(dense)
        dual = matrix.product(forward_ad.make_dual(dense.detach(), torch.ones_like(dense)))
        tangent = forward_ad.unpack_dual(dual).tangent
    assert bare.grad_fn is None
    assert torch.equal(bare, recorded)
    torch.testing.assert_close(tangent, matrix.dense() @ torch.ones_like(dense), rtol=0, atol=1e-12)
    with torch.no_grad():
        assert torch.equal(matrix.product(dense), recorded)


def test_transpose_is_built_once_and_turns_back(matrix):
    assert matrix.transpose is matrix.transpose
    assert matrix.transpose.transpose is matrix
    assert torch.equal(matrix.transpose.dense(), matrix.dense().t())


def test_rows_come_in_the_order_asked_for(matrix):
    assert torch.equal(matrix.rows(np.array([4, 0, 4])).dense(), matrix.dense()[[4, 0, 4]])


def test_head_is_the_first_rows_and_shares_memory(matrix):
    head = matrix.head(3)
    assert torch.equal(head.dense(), matrix.dense()[:3])
    assert head.values.data_ptr() == matrix.values.data_ptr()


def test_scipy_fallback_gives_the_same_product(matrix, dense, monkeypatch):
    expected = matrix.product(dense)
    monkeypatch.setattr("fgsam.graph.sparse._HAS_MKL", False)
    torch.testing.assert_close(matrix.product(dense), expected, rtol=0, atol=1e-14)


def test_copies_and_pickles_hold_the_same_matrix(matrix, dense):
    product = matrix.product(dense)  # leaves a torch CSR tensor behind, which cannot be copied
    assert torch.equal(copy.deepcopy(matrix).product(dense), product)
    assert torch.equal(pickle.loads(pickle.dumps(matrix)).product(dense), product)


def test_a_wrong_shape_is_named(matrix):
    with pytest.raises(ValueError, match=r"Expected 'dense' of shape \[5, width\] \(got \[4, 3\]\)"):
        matrix.product(torch.ones(4, 3, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(0, 5), (4, 5), (4, 0), (0, 0)])
@pytest.mark.parametrize("is_turned_before", [False, True])
def test_a_matrix_without_entries_gives_zeros(dtype, shape, is_turned_before):
    matrix = SparseMatrix.from_scipy(scipy.sparse.csr_array(shape, dtype=dtype))
    if is_turned_before:
        assert matrix.transpose.shape == shape[::-1]
    factor = torch.ones(shape[1], 3, dtype=matrix.dtype, requires_grad=True)
    product = matrix.product(factor)
    product.sum().backward()
    assert torch.equal(product, torch.zeros(shape[0], 3, dtype=matrix.dtype))
    assert torch.equal(factor.grad, torch.zeros(shape[1], 3, dtype=matrix.dtype))
    assert matrix.rows(np.zeros(0, dtype=np.int64)).shape == (0, shape[1])
