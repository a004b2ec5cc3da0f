import pytest

from fgsam.data.locate import locate

FILE = "coauthor/CS/raw/words.npz"


@pytest.mark.parametrize("root", ["", "coauthor", "coauthor/CS", "coauthor/CS/raw"])
def test_leading_folders_may_be_left_out(tmp_path, root):
    path = tmp_path / FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert locate("coauthor_cs", [FILE], tmp_path / root) == [path]


def test_root_comes_before_the_environment(tmp_path, monkeypatch):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "words.npz").write_bytes(b"")
    monkeypatch.setenv("FGSAM_DATA", str(tmp_path / "a"))
    assert locate("mine", ["words.npz"]) == [tmp_path / "a" / "words.npz"]
    assert locate("mine", ["words.npz"], tmp_path / "b") == [tmp_path / "b" / "words.npz"]


def test_missing_folder_and_files_are_named(tmp_path, monkeypatch):
    monkeypatch.delenv("FGSAM_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"graph 'mine' with a/b\.npz \(got none\)\. Set dataset\.root, or"):
        locate("mine", ["a/b.npz"])
    (tmp_path / "c").write_bytes(b"")
    with pytest.raises(
        FileNotFoundError, match=rf"in '{tmp_path}' \(missing: a/b\.npz\)\. Set dataset\.root, or .*FGSAM_DATA"
    ):
        locate("mine", ["a/b.npz", "c"], tmp_path)
