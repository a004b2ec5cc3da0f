from __future__ import annotations

import numpy as np
import pytest

from fgsam.comparison.sealed import narrowed, read_sealed, sealed_bytes, write_sealed

KIND = "fgsam test 1"
ARRAYS = {"a/b c": np.arange(6, dtype=np.uint8).reshape(2, 3), "text": np.asarray("ä")}


def read(path):
    return read_sealed(path, KIND, way_out="Copy it again.")


def test_arrays_come_back_and_numpy_reads_them_too(tmp_path):
    write_sealed(tmp_path / "file", KIND, ARRAYS)
    found, digest = read(tmp_path / "file")
    assert set(found) == set(ARRAYS)
    assert found["a/b c"].dtype == np.uint8
    assert np.array_equal(found["a/b c"], ARRAYS["a/b c"])
    assert str(found["text"]) == "ä"
    assert len(digest) == 64
    with np.load(tmp_path / "file") as archive:
        assert str(archive["format"]) == KIND


def test_the_same_content_has_the_same_bytes():
    assert sealed_bytes(KIND, ARRAYS) == sealed_bytes(KIND, dict(ARRAYS))
    assert sealed_bytes(KIND, ARRAYS) != sealed_bytes(KIND, {**ARRAYS, "text": np.asarray("a")})


def test_a_flip_in_any_byte_is_refused(tmp_path):
    content = sealed_bytes(KIND, ARRAYS)
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        (tmp_path / "file").write_bytes(flipped)
        with pytest.raises(ValueError, match=r"^Expected '.*file' to .*Copy it again\.$"):
            read(tmp_path / "file")


def test_a_cut_or_a_longer_file_is_refused(tmp_path):
    content = sealed_bytes(KIND, ARRAYS)
    for other in (*(content[:length] for length in range(0, len(content), 7)), content + b"0", b"0" + content):
        (tmp_path / "file").write_bytes(other)
        with pytest.raises(ValueError, match=r"^Expected '.*file' to .*Copy it again\.$"):
            read(tmp_path / "file")


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "file.npz"
    np.savez(path, **ARRAYS)
    with pytest.raises(ValueError, match=r"whole file of the format 'fgsam test 1' \(it has no digest at its end"):
        read(path)
    write_sealed(path, "fgsam test 2", ARRAYS)
    with pytest.raises(ValueError, match=r"in the format 'fgsam test 1' \(got 'fgsam test 2'\). Copy it again."):
        read(path)
    with pytest.raises(FileNotFoundError, match=r"absent' to be a readable file \(No such file"):
        read(tmp_path / "absent")
    with pytest.raises(IsADirectoryError, match="to be a readable file"):
        read(tmp_path)


def test_python_objects_are_not_written():
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        sealed_bytes(KIND, {"a": np.array([print])})


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 255], "u1"),
        ([-1, 127], "i1"),
        ([256], "u2"),
        ([-1, 128], "i2"),
        ([2**31], "u4"),
        ([2**40], "i8"),
        ([], "u1"),
    ],
)
def test_numbers_are_kept_in_the_smallest_type_that_holds_them(values, kind):
    found = narrowed(np.array(values, dtype=np.int64))
    assert found.dtype == np.dtype(kind)
    assert found.tolist() == values
