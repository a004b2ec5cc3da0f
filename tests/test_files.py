import errno
import os

import numpy as np
import pytest

from fgsam.files import array_bytes, read_arrays, write_atomically


def test_written_file_replaces_the_old_one_and_leaves_no_other(tmp_path):
    path = tmp_path / "result.bin"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["result.bin"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failing):
    path = tmp_path / "result.bin"
    write_atomically(path, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(
        OSError, match=r"result\.bin' to be writable \(No space left on device\)\. Free space"
    ) as caught:
        write_atomically(path, b"new")
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == ["result.bin"]
    assert path.read_bytes() == b"old"


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent/result\.bin' to be writable"):
        write_atomically(tmp_path / "absent" / "result.bin", b"")


def test_arrays_come_back_as_packed(tmp_path):
    path = tmp_path / "arrays.npz"
    path.write_bytes(array_bytes({"ids": np.arange(3), "note": "text", "version": 2}))
    arrays = read_arrays(path, way_out="")
    assert arrays["ids"].tolist() == [0, 1, 2]
    assert (str(arrays["note"]), int(arrays["version"])) == ("text", 2)
    assert list(read_arrays(path, way_out="", keys=["ids"])) == ["ids"]


def test_same_arrays_give_the_same_bytes():
    assert array_bytes({"a": np.arange(3)}) == array_bytes({"a": np.arange(3)})


def test_python_objects_are_refused_unread(tmp_path):
    path = tmp_path / "objects.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"key 'x' of '.*objects\.npz'.*never unpickled.*Write it anew\."):
        read_arrays(path, way_out="Write it anew.")


def test_missing_key_is_named(tmp_path):
    path = tmp_path / "arrays.npz"
    path.write_bytes(array_bytes({"ids": np.arange(3)}))
    with pytest.raises(ValueError, match=r"key 'labels' of '.*arrays\.npz'"):
        read_arrays(path, keys=["labels"], way_out="")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"\x80\x04N.", b"PK\x03\x04broken"])
def test_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "foreign.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"foreign\.npz' to be readable"):
        read_arrays(path, way_out="")


def test_single_array_is_no_archive(tmp_path):
    np.save(tmp_path / "single.npy", np.arange(3))
    with pytest.raises(ValueError, match="a single array"):
        read_arrays(tmp_path / "single.npy", way_out="")


def test_damage_at_any_byte_is_an_error_or_harmless(tmp_path):
    whole = array_bytes({"a": np.arange(3), "b": np.ones(2)})
    path = tmp_path / "damaged.npz"
    messages = []
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            arrays = read_arrays(path, way_out="")
        except ValueError as error:
            messages.append(str(error))
        else:
            # Names and time stamps of the archive have no checksum; the arrays do.
            assert all(array.tolist() in ([0, 1, 2], [1.0, 1.0]) for array in arrays.values())
    assert messages
    assert all("damaged.npz" in message for message in messages)
