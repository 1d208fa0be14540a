"""Parts of a folder by the names of files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from restored_folders import contents, photographs
from torch import nn

from glocal.errors import ArgumentError
from glocal.runs.folder import restore_folder, restore_jobs
from glocal.runs.jobs import folder_jobs
from glocal.runs.shards import Shard


@given(
    st.lists(st.text(min_size=1).filter(lambda text: text.strip("./")), unique=True),
    st.integers(1, 9),
)
def test_each_file_is_in_one_shard(names: list[str], count: int) -> None:
    shards = [Shard(number, count) for number in range(1, count + 1)]
    assert all(sum(shard.has(name) for shard in shards) == 1 for name in names)


def test_shards_are_about_equal_and_a_name_keeps_its_shard() -> None:
    shard = Shard(2, 8)
    found = [name for name in map("{:05d}.png".format, range(8000)) if shard.has(name)]
    assert 900 < len(found) < 1100
    assert found[:3] == ["00005.png", "00012.png", "00017.png"]
    assert shard.has("00005.jpg")


@pytest.mark.parametrize("text", ["", "3", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b"])
def test_texts_that_are_no_shard(text: str) -> None:
    with pytest.raises(ArgumentError, match="is not a shard"):
        Shard.named(text)


def test_shards_of_a_folder_come_together_without_a_merge(tmp_path: Path) -> None:
    source = photographs(tmp_path / "in", 7, (8, 9))
    out = tmp_path / "out"
    jobs = folder_jobs(source, out)
    for number in (1, 2, 3):
        shard = Shard(number, 3)
        own = [job for job in jobs if shard.has(job.destination.relative_to(out))]
        list(restore_jobs(nn.Identity(), own, out, writer=shard.name, channels=3))
    list(restore_folder(nn.Identity(), source, tmp_path / "whole", channels=3))
    assert contents(out) == contents(tmp_path / "whole")
    again = list(restore_folder(nn.Identity(), source, out, channels=3))
    assert [each.status for each in again].count("skipped") == 7
    other = list(restore_folder(nn.Identity(), source, out, channels=3, quality=50))
    assert [each.again for each in other].count("with other options (quality)") == 7
    again = list(restore_folder(nn.Identity(), source, out, channels=3, quality=50))
    assert [each.status for each in again].count("skipped") == 7
