"""A log that survives being killed."""

from semihv_hf.journal import Journal


def test_a_torn_last_line_is_cut_off_and_the_rest_kept(tmp_path):
    journal = Journal(tmp_path / "log", {"fingerprint": "a"})
    journal.append([{"key": "1"}, {"key": "2"}])
    journal.close()
    whole = (tmp_path / "log").read_bytes()
    for cut in range(1, len(b'{"key": "2"}\n')):
        (tmp_path / "log").write_bytes(whole[:-cut])
        rows, foreign = Journal(tmp_path / "log", {"fingerprint": "a"}).load()
        assert rows == [{"key": "1"}] and not foreign
        assert (tmp_path / "log").read_bytes().endswith(b'{"key": "1"}\n')


def test_what_follows_a_torn_line_is_readable(tmp_path):
    (tmp_path / "log").write_bytes(b'{"fingerprint": "a"}\n{"key": "1"}\n{"ke')
    journal = Journal(tmp_path / "log", {"fingerprint": "a"})
    assert journal.load() == ([{"key": "1"}], False)
    journal.append([{"key": "2"}])
    journal.close()
    assert Journal(tmp_path / "log", {"fingerprint": "a"}).load() == ([{"key": "1"}, {"key": "2"}], False)


def test_a_log_of_other_work_is_not_read(tmp_path):
    journal = Journal(tmp_path / "log", {"fingerprint": "a"})
    journal.append([{"key": "1"}])
    journal.close()
    other = Journal(tmp_path / "log", {"fingerprint": "b"})
    assert other.load() == ([], True)
    other.append([{"key": "2"}])
    other.close()
    assert Journal(tmp_path / "log", {"fingerprint": "b"}).load() == ([{"key": "2"}], False)


def test_a_torn_header_is_no_other_work(tmp_path):
    (tmp_path / "log").write_bytes(b'{"finge')
    assert Journal(tmp_path / "log", {"fingerprint": "a"}).load() == ([], False)
