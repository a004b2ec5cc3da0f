import re

import pytest

from fgsam.data.locate import find, locate

FILE = "coauthor/CS/raw/words.npz"


@pytest.mark.parametrize("root", ["", "coauthor", "coauthor/CS", "coauthor/CS/raw"])
def test_leading_folders_may_be_left_out(tmp_path, root):
    path = tmp_path / FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert locate("coauthor_cs", [FILE], tmp_path / root) == [path]


def test_root_comes_before_the_environment_and_that_before_the_cache(tmp_path, monkeypatch):
    for folder in ("a", "b", "c/data"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "words.npz").write_bytes(b"")
    monkeypatch.setenv("FGSAM_DATA", str(tmp_path / "a"))
    monkeypatch.setenv("FGSAM_CACHE", str(tmp_path / "c"))
    assert locate("mine", ["words.npz"]) == [tmp_path / "a" / "words.npz"]
    assert locate("mine", ["words.npz"], tmp_path / "b") == [tmp_path / "b" / "words.npz"]
    (tmp_path / "a" / "words.npz").unlink()
    assert locate("mine", ["words.npz"]) == [tmp_path / "c" / "data" / "words.npz"]
    assert find("letters.npz") is None


def test_missing_files_are_named_with_folders_and_command(tmp_path, monkeypatch):
    monkeypatch.setenv("FGSAM_DATA", str(tmp_path))
    monkeypatch.setenv("FGSAM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "c").write_bytes(b"")
    expected = (
        f"graph 'mine' (missing: a/b.npz; looked in '{tmp_path}', '{tmp_path}/cache/data'). "
        "Fetch them with 'fgsam data get mine', or set dataset.root, or the environment variable FGSAM_DATA"
    )
    with pytest.raises(FileNotFoundError, match=re.escape(expected)):
        locate("mine", ["a/b.npz", "c"])
    with pytest.raises(FileNotFoundError, match=f"'fgsam data get mine --root {tmp_path}'"):
        locate("mine", ["a/b.npz"], tmp_path)
