import pytest

from fgsam import assets


def test_folders_of_the_checkout_are_found():
    assert (assets.asset_folder("datasets") / "synthetic" / "splits.json").is_file()


def test_wheel_comes_before_checkout(tmp_path, monkeypatch):
    for place in ("fgsam/_assets/configs", "configs"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.setattr(assets, "__file__", str(tmp_path / "fgsam" / "assets.py"))
    assert assets.asset_folder("configs") == tmp_path / "fgsam" / "_assets" / "configs"
    with pytest.raises(FileNotFoundError, match=r"folder 'datasets' of the package .* Install fgsam again"):
        assets.asset_folder("datasets")
