from __future__ import annotations

import pytest
import torch

from fgsam.functional.trees import (
    Gradient,
    add,
    add_,
    add_scaled,
    add_scaled_,
    copy_each_,
    dot,
    dots,
    norm,
    norms,
    scale,
    scale_,
    shift_,
)


def random_tree(*dtypes: torch.dtype, missing: int | None = None) -> list[torch.Tensor | None]:
    generator = torch.Generator().manual_seed(len(dtypes))
    tensors = [torch.randn(3, i + 1, dtype=dtype, generator=generator) for i, dtype in enumerate(dtypes)]
    return [None if i == missing else tensor for i, tensor in enumerate(tensors)]


def test_norm_is_that_of_all_entries_in_one_vector():
    tree = random_tree(torch.float64, torch.float64, torch.float64, missing=1)
    flat = torch.cat([t.flatten() for t in tree if t is not None])
    torch.testing.assert_close(norm(tree), flat.norm())
    assert norms(tree)[1] is None
    torch.testing.assert_close(norms(tree)[2], tree[2].norm())


def test_norm_of_nothing_is_zero():
    assert norm([None, None]) == 0
    assert norm([]) == 0
    assert dot([None], [torch.ones(2)]) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_norm_of_half_precision_does_not_overflow(dtype):
    tree = [torch.full((1000,), 6e4, dtype=dtype)]
    assert norm(tree).dtype == torch.float32
    torch.testing.assert_close(norm(tree), tree[0].float().norm())
    assert dot(tree, tree).isfinite()


def test_norm_and_dot_of_mixed_types_are_real():
    tree = random_tree(torch.float32, torch.float64, torch.complex128, torch.bfloat16)
    expected = sum(t.abs().double().pow(2).sum() for t in tree)
    assert not norm(tree).is_complex()
    torch.testing.assert_close(norm(tree).double() ** 2, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(dot(tree, tree).double(), expected, rtol=1e-5, atol=0)


def test_complex_dot_is_that_of_real_and_imaginary_parts():
    a, b = random_tree(torch.complex128), random_tree(torch.complex128, torch.float64)[:1]
    expected = (torch.view_as_real(a[0]) * torch.view_as_real(b[0])).sum()
    torch.testing.assert_close(dot(a, b), expected)
    torch.testing.assert_close(dots(a, b)[0], expected)


def test_add_counts_missing_entries_as_zero():
    one, two = torch.ones(2), torch.full((2,), 2.0)
    total = add([one, None, one, None], [two, two, None, None], alpha=0.5)
    torch.testing.assert_close(total[:3], [torch.full((2,), 2.0), one, one])
    assert total[3] is None


def test_add_leaves_its_arguments_alone():
    one, two = torch.ones(2), torch.full((2,), 2.0)
    add([one], [two], alpha=3.0)
    assert torch.equal(one, torch.ones(2))
    assert torch.equal(two, torch.full((2,), 2.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("factor", [2.0, torch.tensor(2.0), torch.tensor(2.0, dtype=torch.float64)])
def test_scale_keeps_the_type(dtype, factor):
    tree = [torch.ones(3, dtype=dtype), None, torch.ones(2, 2, dtype=dtype)]
    for scaled in (scale(tree, factor), scale(tree, [factor, None, factor])):
        assert scaled[1] is None
        assert scaled[0].dtype == scaled[2].dtype == dtype
        assert torch.equal(scaled[0], 2 * tree[0])


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        add([torch.ones(1)], [])


@pytest.mark.parametrize("factor", [torch.tensor(0.5), [torch.tensor(0.5)] * 4, torch.tensor(0.5, dtype=torch.float64)])
def test_add_scaled_counts_missing_entries_as_zero(factor):
    one, two = torch.ones(2), torch.full((2,), 2.0)
    total = add_scaled([one, None, one, None], [two, two, None, None], factor)
    torch.testing.assert_close(total[:3], [torch.full((2,), 2.0), one, one])
    assert total[3] is None


def test_add_scaled_skips_entries_without_a_factor():
    one, two = torch.ones(2), torch.full((2,), 2.0)
    total = add_scaled([one, None], [two, two], [None, None])
    assert torch.equal(total[0], one)
    assert total[1] is None


def test_add_scaled_shares_no_tensor_with_its_arguments():
    one, two, factor = torch.ones(2), torch.full((2,), 2.0), torch.tensor(3.0)
    given = [one, one, None], [two, None, two]
    scale_(add_scaled(*given, factor), 100.0)
    scale_(add_scaled(*given, [None, None, factor]), 100.0)
    assert torch.equal(one, torch.ones(2))
    assert torch.equal(two, torch.full((2,), 2.0))


@pytest.mark.parametrize(
    ("in_place", "pure"),
    [
        (lambda a, b: add_(a, b, alpha=0.3), lambda a, b: add(a, b, alpha=0.3)),
        (lambda a, b: add_scaled_(a, b, torch.tensor(0.3)), lambda a, b: add_scaled(a, b, torch.tensor(0.3))),
        (lambda a, b: scale_(a, 0.3), lambda a, b: scale(a, 0.3)),
        (lambda a, b: scale_(a, torch.tensor(0.3)), lambda a, b: scale(a, torch.tensor(0.3))),
    ],
)
def test_work_in_place_gives_the_same_bits_and_leaves_the_second_list_alone(in_place, pure):
    first, second = random_tree(*[torch.float32] * 4, missing=1), random_tree(*[torch.float32] * 4, missing=2)
    second = [None if t is None else t + 1 for t in second]
    before = [None if t is None else t.clone() for t in second]
    expected = pure(first, second)
    found = in_place(first, second)
    for i, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert (one is None) == (other is None)
        assert other is None or torch.equal(one, other)
        assert first[i] is None or one is first[i]
        assert second[i] is None or (one is not second[i] and torch.equal(second[i], before[i]))


def test_a_gradient_remembers_its_norm_and_what_is_written_into_it_does_not():
    gradient = Gradient([torch.tensor([3.0]), None, torch.tensor([4.0])])
    assert norm(gradient) is gradient.length
    assert norm(scale_(gradient, 2.0)) == 10.0
    assert norm(add_(gradient, [None, None, None])) == 10.0
    assert norm(add_scaled_(gradient, [None, None, None], torch.tensor(1.0))) == 10.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64, torch.complex128])
@pytest.mark.parametrize("is_shared", [True, False])
def test_shifts_add_each_move_times_its_factor(dtype, is_shared):
    tensors, moves = random_tree(dtype, dtype), random_tree(dtype, dtype)
    factors = [torch.tensor(0.25, dtype=torch.float64)] * 2
    expected = [t + m * 0.25 for t, m in zip(tensors, moves, strict=True)]
    shift_(tensors, moves, factors if is_shared else [factor.clone() for factor in factors])
    for found, wanted in zip(tensors, expected, strict=True):
        torch.testing.assert_close(found, wanted)
    shift_([], [], [])


def test_moves_of_another_type_are_rounded_to_that_of_the_tensor():
    tensors = [torch.zeros(2, dtype=torch.float32)]
    shift_(tensors, [torch.tensor([1.0, 3.0], dtype=torch.float64)], [torch.tensor(0.5)])
    assert torch.equal(tensors[0], torch.tensor([0.5, 1.5]))


def test_copies_take_values_and_keep_memory():
    tensors, sources = random_tree(torch.float32, torch.float64), random_tree(torch.float32, torch.float64)
    pointers = [t.data_ptr() for t in tensors]
    copy_each_(tensors, [2 * source for source in sources])
    assert all(torch.equal(t, 2 * source) for t, source in zip(tensors, sources, strict=True))
    assert [t.data_ptr() for t in tensors] == pointers
    copy_each_([], [])


def test_numbers_without_dimensions_keep_their_type():
    one, factor = torch.tensor(2.0), torch.tensor(0.5, dtype=torch.float64)
    assert [grad.dtype for grad in add_scaled_([None], [one], [factor])] == [torch.float32]
    assert [grad.dtype for grad in scale([one], [factor])] == [torch.float32]
    assert [grad.dtype for grad in scale([one], factor)] == [torch.float32]
