from pathlib import Path

import pytest

from fgsam.data.folders import cache_folder, data_folders


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch, tmp_path):
    for name in ("FGSAM_DATA", "FGSAM_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("platform", "folder"),
    [
        ("linux", ".cache/fgsam"),
        ("darwin", "Library/Caches/fgsam"),
        ("win32", "AppData/Local/fgsam"),
    ],
)
def test_the_platform_has_a_cache_folder(platform, folder, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", platform)
    assert cache_folder() == tmp_path / folder


def test_variables_come_before_the_platform(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/fgsam")
    monkeypatch.setenv("FGSAM_CACHE", "/own")
    assert cache_folder() == Path("/own")


def test_raw_files_are_looked_for_in_the_named_folder_then_in_the_cache(monkeypatch):
    monkeypatch.setenv("FGSAM_CACHE", "/own")
    assert data_folders() == [Path("/own/data")]
    monkeypatch.setenv("FGSAM_DATA", "/data")
    assert data_folders() == [Path("/data"), Path("/own/data")]
    assert data_folders("/root") == [Path("/root")]


def test_without_a_home_the_named_folder_serves(monkeypatch):
    def no_home():
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setenv("FGSAM_DATA", "/data")
    assert data_folders() == [Path("/data")]
    with pytest.raises(OSError, match=r"home folder for the cache \(no home\)\. Set FGSAM_CACHE to a folder"):
        cache_folder()
