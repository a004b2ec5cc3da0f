from __future__ import annotations

import pytest
import torch

from fgsam.functional.projection import across, across_, orthogonal_part, orthogonal_part_each, unit_each
from fgsam.functional.trees import add, dot, dots, norm, norms, scale_


def random_tree(seed: int, shapes=((3, 2), (4,), (2, 2))) -> list[torch.Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]


def test_orthogonal_part_is_orthogonal_and_leaves_a_parallel_rest():
    b, a = random_tree(0), random_tree(1)
    part = orthogonal_part(b, a)
    assert abs(dot(part, a)) < 1e-14
    along = add(b, part, alpha=-1.0)
    factor = dot(b, a) / dot(a, a)
    torch.testing.assert_close(along, [factor * one for one in a])


def test_orthogonal_part_equals_the_printed_form():
    b, a = random_tree(0), random_tree(1)
    cosine = dot(b, a) / (norm(a) * norm(b))
    printed = [x - norm(b) * cosine * y / norm(a) for x, y in zip(b, a, strict=True)]
    torch.testing.assert_close(orthogonal_part(b, a), printed)


def test_each_tensor_is_orthogonal_to_its_own_direction():
    b, a = random_tree(0), random_tree(1)
    assert all(abs(product) < 1e-14 for product in dots(orthogonal_part_each(b, a), a))


def test_global_and_per_tensor_forms_agree_on_one_tensor_only():
    b, a = random_tree(0), random_tree(1)
    torch.testing.assert_close(orthogonal_part(b[:1], a[:1]), orthogonal_part_each(b[:1], a[:1]))
    assert not torch.allclose(orthogonal_part(b, a)[0], orthogonal_part_each(b, a)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("project", [orthogonal_part, orthogonal_part_each])
def test_a_parallel_vector_leaves_exactly_nothing(project, dtype):
    a = [one.to(dtype) for one in random_tree(1)]
    part = project([one * 3 for one in a], a)
    assert all(torch.equal(one, torch.zeros_like(one)) for one in part)
    assert all(torch.equal(one, torch.zeros_like(one)) for one in unit_each(part))


@pytest.mark.parametrize("project", [orthogonal_part, orthogonal_part_each])
def test_a_zero_direction_changes_nothing(project):
    b = random_tree(0)
    torch.testing.assert_close(project(b, [torch.zeros_like(one) for one in b]), b)
    torch.testing.assert_close(project(b, [None, None, None]), b)


def test_missing_entries_count_as_zero():
    b, a = random_tree(0), random_tree(1)
    part = orthogonal_part([None, *b[1:]], a)
    dense = orthogonal_part([torch.zeros_like(a[0]), *b[1:]], a)
    torch.testing.assert_close(part, dense)
    each = orthogonal_part_each([None, *b[1:]], [a[0], None, a[2]])
    assert each[0] is None
    torch.testing.assert_close(each[1], b[1])
    assert unit_each([None, b[1]])[0] is None


def test_unit_vectors_have_length_one_each():
    torch.testing.assert_close(norms(unit_each(random_tree(0))), [torch.ones((), dtype=torch.float64)] * 3)


def test_across_gives_the_orthogonal_part_and_its_length():
    b, a = random_tree(0), random_tree(1)
    part, length = across(b, a, dot(a, a))
    assert all(map(torch.equal, part, orthogonal_part(b, a)))
    torch.testing.assert_close(length, norm(part))


def test_work_in_place_gives_the_same_bits_in_the_tensors_of_the_vector():
    b, a = random_tree(0), [random_tree(1)[0], None, random_tree(1)[2]]
    wanted, wanted_length = across(b, a, dot(a, a))
    part, length = across_(b, a, dot(a, a))
    assert all(one is tensor for one, tensor in zip(part, b, strict=True))
    assert all(map(torch.equal, part, wanted))
    assert torch.equal(length, wanted_length)


def test_length_across_a_parallel_direction_is_zero():
    a = random_tree(1)
    assert across([3 * one for one in a], a, dot(a, a))[1] == 0


def test_what_lies_across_can_be_changed_in_place():
    b, a = random_tree(0), [random_tree(1)[0], None, torch.zeros(2, 2, dtype=torch.float64)]
    before = [one.clone() for one in b]
    part, _ = across(b, a, dot(a, a))
    scale_(part, 100.0)
    assert all(map(torch.equal, b, before))
