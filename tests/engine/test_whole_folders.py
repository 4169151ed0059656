"""Folders that are written whole or not at all."""

import pytest

from engine.atomic_files import new_folder
from odebackbones import InputError


def test_a_folder_is_filled_whole_or_not_at_all(tmp_path):
    out = tmp_path / "deep" / "out"
    with pytest.raises(RuntimeError), new_folder(out) as folder:
        (folder / "a").touch()
        raise RuntimeError
    assert list(out.parent.iterdir()) == []
    out.mkdir()
    with new_folder(out) as folder:
        (folder / "a").touch()
        assert list(out.iterdir()) == []
    assert [file.name for file in out.iterdir()] == ["a"] and list(out.parent.iterdir()) == [out]
    for taken in (out, out / "a"):
        with pytest.raises(InputError, match=f"{taken}: is there already and not an empty folder"), new_folder(taken):
            pass
