"""What `semihv sources` says: every release, every file, every option, every term."""

import pytest

from semihv_hf.data.licences import source_licence
from semihv_hf.data.sources import ADAPTERS, source_class
from semihv_hf.data.sources.base import Source
from semihv_hf.data.sources.describe import source_options


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_adapter_names_itself_its_files_and_its_options(name):
    cls = source_class(name)
    assert issubclass(cls, Source) and cls.name == name
    assert cls.layout and all(pattern and what for pattern, what in cls.layout)
    undocumented = [option for option, (_, what) in source_options(cls).items() if len(what) < 10]
    assert undocumented == []
    assert set(cls.path_options) <= set(source_options(cls))


def test_one_source_is_told_in_full(semihv):
    done = semihv("sources", "eurorad")
    words = " ".join(done.stdout.split())
    assert done.returncode == 0
    for expected in ("eurorad.json", "permission=None", source_licence("eurorad").link, "6 July 2015"):
        assert expected in words


def test_all_sources_are_listed(semihv):
    done = semihv("sources")
    assert all(name in done.stdout for name in (*ADAPTERS, "open_packages"))
    done = semihv("sources", "nowhere")
    assert done.returncode == 1 and "Unknown source 'nowhere'" in done.stderr
