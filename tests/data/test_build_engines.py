"""The engines: the same work in this process, in several, and on a Ray cluster of two machines."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from test_build_release import content, make
from tiny_source import write_release

from semihv_hf.data import engines
from semihv_hf.errors import SemiHVError


def power(exponent: int, base: int) -> int:
    return base**exponent


def fail(base: int) -> int:
    if base == 3:
        raise SemiHVError("Three is refused.", "Take four.")
    return os.getpid()


def test_several_processes_do_every_task_once():
    with engines.engine("local", 2) as machines:
        assert dict(machines.run(partial(power, 2), range(20))) == {n: n * n for n in range(20)}
        pids = {pid for _, pid in machines.run(fail, [1, 2, 4, 5, 6, 7])}
        assert os.getpid() not in pids and 1 <= len(pids) <= 2, "the same processes serve for further work"
        assert list(machines.run(fail, [])) == []


def test_one_worker_is_this_process():
    with engines.engine("local", 1) as machines:
        assert list(machines.run(fail, [1, 2])) == [(1, os.getpid()), (2, os.getpid())]


def test_what_the_work_raises_is_raised_here():
    with pytest.raises(SemiHVError, match="Three is refused"):
        with engines.engine("local", 2) as machines:
            list(machines.run(fail, range(10)))


def test_a_script_without_a_main_guard_is_told_so(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from semihv_hf.data import engines\n"
        "with engines.engine('local', 2) as machines:\n"
        "    print(list(machines.run(len, ['a', 'b', 'c'])))\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and done.stdout == ""
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("semihv_hf.errors.SemiHVError")]
    assert "A worker process was ended" in told and "if __name__ == '__main__':" in told


def test_ray_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SemiHVError, match=r"The engine ray needs Ray Data.*semihv-hf\[ray\]"):
        with engines.engine("ray"):
            raise AssertionError("never reached")


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of Ray on the loopback interface, each a raylet of its own with one processor."""
    ray = pytest.importorskip("ray", reason="ray is not installed: the engine ray is NOT tested")
    pytest.importorskip("ray.data", reason="ray[data] is not installed: the engine ray is NOT tested")
    from ray.cluster_utils import Cluster

    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), str(Path(__file__).parent)])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = path  # the workers of both nodes inherit it
    nodes = None
    try:
        head = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
        nodes = Cluster(initialize_head=True, head_node_args=head)
        nodes.add_node(num_cpus=1, object_store_memory=100 << 20)
        ray.init(address=nodes.address, log_to_driver=False, logging_level="error")
        yield ray
    finally:
        ray.shutdown()
        if nodes is not None:
            nodes.shutdown()
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


def node(_: int) -> str:
    import time

    import ray

    time.sleep(0.2)
    return ray.get_runtime_context().get_node_id()


@pytest.mark.slow
def test_two_nodes_of_ray_write_the_same_bytes_as_one_process(cluster, tmp_path):
    release = write_release(tmp_path / "tiny", 600, damaged=4)
    make(release, tmp_path / "local")
    with engines.engine("ray") as machines:
        found = {where for _, where in machines.run(node, range(12))}
    assert len(found) == len(cluster.nodes()) == 2, "both machines work"
    make(release, tmp_path / "ray", engine="ray")
    assert content(tmp_path / "ray") == content(tmp_path / "local")


@pytest.mark.slow
def test_what_goes_wrong_on_a_node_is_one_line_here_and_the_build_goes_on_locally(cluster, tmp_path):
    release = write_release(tmp_path / "tiny", 200)
    make(release, tmp_path / "local", max_skipped=0.0)
    with pytest.raises(SemiHVError, match="Three is refused"):
        with engines.engine("ray") as machines:
            list(machines.run(fail, range(10)))
    with pytest.raises(MemoryError):
        make(release, tmp_path / "broken", engine="ray", options={"faults": {"row150": "memory"}})
    assert not (tmp_path / "broken" / "build_manifest.json").exists()
    done = list((tmp_path / "broken" / ".build" / "blocks").iterdir())
    assert done, "blocks that were finished are kept"
    with pytest.raises(MemoryError):
        make(release, tmp_path / "broken", options={"faults": {"row150": "memory"}})
    assert cluster.is_initialized(), "a cluster that was there before is not ended"
