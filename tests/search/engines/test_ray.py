"""The Ray engine on a real cluster of two nodes on this machine, one of which is killed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwbench.errors import ConfigError
from hwbench.store import Store
from search.engine import Engine
from search.run import drive
from search.strategies import nested
from search.task import File, Task
from tests.contracts.engine import EngineContract
from tests.search.conftest import OUTSIDE, installed
from tests.search.toy import BUDGET, Toy

pytest.importorskip("ray", reason="the extra `ray` is not installed")
from ray.cluster_utils import Cluster

from search.engines import local, ray


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head with one core and a board, whose workers find the plugins of `outside/`."""
    with pytest.MonkeyPatch.context() as patch:
        site = tmp_path_factory.mktemp("ray") / "site"
        with installed(site, patch):
            root = Path(__file__).parents[3]
            patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (root, OUTSIDE, site))))
            patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
            patch.setenv("RAY_health_check_period_ms", "500")
            patch.setenv("RAY_health_check_failure_threshold", "2")
            head = {"num_cpus": 1, "resources": {"board:coral": 1}, "include_dashboard": False}
            started = Cluster(initialize_head=True, head_node_args=head)
            try:
                started.add_node(num_cpus=1)
                yield started
            finally:
                started.shutdown()


@pytest.fixture(scope="module")
def engine(cluster: Any) -> Iterator[Engine]:
    with ray.open(ray.Options(address=cluster.address)) as opened:
        yield opened


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "127.0.0.1:port"])
def test_an_address_where_nobody_listens_is_named(address: str) -> None:
    """At once, with what to do."""
    start = time.monotonic()
    with pytest.raises(ConfigError, match=rf"no Ray cluster answers at {address} .*ray start --head"):
        ray.open(ray.Options(address=address)).__enter__()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 10


class TestRay(EngineContract):
    """Over both nodes."""

    def test_its_width_is_the_cluster(self, engine: Engine) -> None:
        """One core on each of two nodes."""
        assert 2 == engine.workers

    def test_a_board_decides_where_a_task_runs(self, engine: Engine, cluster: Any) -> None:
        """Four tasks that need it all go to the head; without it both nodes work."""
        needs = {"cpu": 1.0, "board:coral": 1.0}
        asked = [Task(kind="double", args={"i": i}, needs=needs) for i in range(4)]
        assert {cluster.head_node.node_id[:8]} == {d.worker.split()[1] for d in engine.run(asked)}

    def test_what_no_node_offers_is_refused_at_once(self, engine: Engine) -> None:
        """Ray would wait for ever."""
        with pytest.raises(ConfigError, match=r"offers 'board:tpu'; start one with: ray start --resources"):
            list(engine.run([Task(kind="double", args={}, needs={"board:tpu": 1.0})]))

    def test_a_file_is_kept_by_its_content_where_it_is_missing(self, engine: Engine, tmp_path: Path) -> None:
        """As on a node of another machine."""
        file = tmp_path / "weights"
        file.write_bytes(b"abc")
        known = File.of(file)
        copied = ray._here(File(path=tmp_path / "elsewhere", sha256=known.sha256), engine._content(known))  # type: ignore[attr-defined]
        assert b"abc" == copied.path.read_bytes()
        assert known == ray._here(known, None)

    def test_closing_it_ends_what_runs(self, engine: Engine) -> None:
        """As after Ctrl-C: the node is free for the next task long before the first would have ended."""
        start = time.monotonic()
        running = engine.run([Task(kind="double", args={"sleep_s": s}) for s in (0.0, 60.0, 61.0)])
        next(running)
        running.close()  # type: ignore[attr-defined]
        assert 1 == len(list(engine.run([Task(kind="double", args={"i": 99})])))
        assert time.monotonic() - start < 30

    def test_the_front_is_that_of_one_process_though_a_node_dies(
        self, engine: Engine, cluster: Any, tmp_path: Path
    ) -> None:
        """The same seed, bytes and all; its tasks are run again on the node that is left."""
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()

        class Axe:
            cut = False

            def asked(self, n: int, tasks: Any, known: int) -> None: ...

            def answered(self, done: Any) -> None:
                if not self.cut:
                    cluster.remove_node(node, allow_graceful=False)
                    self.cut = True

            def heard(self, n: int, tasks: Any, front: Any) -> None: ...

        axe = Axe()
        fronts = []
        with local.open(local.Options(workers=0)) as here:
            for name, used, watchers in (("one", here, []), ("ray", engine, [axe])):
                with Store(tmp_path / f"{name}.sqlite") as store:
                    strategy, rng = nested.open(nested.Options()), np.random.default_rng(4)
                    fronts.append(drive(Toy(), strategy, BUDGET, used, store, rng, watchers).to_csv())
        assert axe.cut
        assert fronts[0] == fronts[1]

    def test_the_task_on_a_node_that_dies_is_run_again(self, engine: Engine, cluster: Any) -> None:
        """It held the task when it went."""
        node = cluster.add_node(num_cpus=1, resources={"here": 1})
        cluster.wait_for_nodes()
        doomed = Task(kind="double", args={"sleep_s": 1.0, "i": 7}, needs={"cpu": 1.0, "here": 1.0})
        quick = Task(kind="double", args={"i": 8})
        running = engine.run([doomed, quick])
        first = next(running)
        cluster.remove_node(node, allow_graceful=False)
        cluster.add_node(num_cpus=1, resources={"here": 1})
        (second,) = running
        assert (quick.key, doomed.key) == (first.task.key, second.task.key)
        assert node.node_id[:8] not in second.worker
