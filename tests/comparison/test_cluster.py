from __future__ import annotations

import os
import signal
import sys

import dask.config
import distributed
import psutil
import pytest

from fgsam.comparison.executors.cluster import Dask, local_cluster
from tests.comparison import jobs
from tests.comparison.launching import Launcher, is_alive, outcomes, workers


def test_a_launcher_of_a_cluster_that_is_stopped_prints_nothing(tmp_path):
    launcher = Launcher(tmp_path, "dask")
    os.killpg(launcher.process.pid, signal.SIGINT)
    assert launcher.end() == 130
    assert not any(is_alive(pid) for pid in launcher.pids)
    assert launcher.output.read_text() == ""


def test_a_lost_scheduler_is_told(monkeypatch):
    monkeypatch.setattr("fgsam.comparison.executors.cluster.CONNECT_SECONDS", 0.5)
    with dask.config.set({"distributed.comm.timeouts.connect": "500ms"}), local_cluster(1) as cluster:
        results = Dask(cluster.scheduler_address).run(jobs.own_process, range(1000))
        assert next(results).error is None
        cluster.close()
        with pytest.raises(ConnectionError, match="Expected the Dask scheduler to stay"):
            for _ in results:
                pass


def test_a_job_whose_result_is_lost_is_done_again(monkeypatch):
    asked = []
    arrive = distributed.Future.result

    def lose_the_first(future, timeout=None):
        asked.append(future)
        if len(asked) == 1:
            raise TimeoutError
        return arrive(future, timeout)

    monkeypatch.setattr(distributed.Future, "result", lose_the_first)
    assert outcomes(Dask(workers=1), jobs.double, [1, 2]) == {1: 2, 2: 4}
    assert len(asked) == 3


def test_an_address_and_workers_exclude_each_other():
    with pytest.raises(ValueError, match="Expected 'workers' without 'address'"):
        Dask("tcp://127.0.0.1:9", workers=2)


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RuntimeError, match=r"Run: pip install 'fgsam\[cluster\]'"):
        Dask()


def test_workers_of_several_threads_are_refused():
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        pytest.raises(ValueError, match="Expected Dask workers of one thread"),
    ):
        list(Dask(cluster.scheduler_address).run(jobs.double, [1]))


def test_an_own_cluster_listens_on_loopback_only():
    with local_cluster(1):
        processes = [psutil.Process(), *workers()]
        listening = {
            connection.laddr.ip
            for process in processes
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
    assert listening == {"127.0.0.1"}


def test_an_address_without_a_scheduler_is_told(monkeypatch):
    monkeypatch.setattr("fgsam.comparison.executors.cluster.CONNECT_SECONDS", 0.5)
    with pytest.raises(ConnectionError, match=r"Expected a Dask scheduler at 'tcp://127.0.0.1:9' \(no answer within"):
        list(Dask("tcp://127.0.0.1:9").run(jobs.double, [1]))
