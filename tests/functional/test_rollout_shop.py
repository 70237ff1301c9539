"""`lab rollout` on the testbed's shop: two real workers with their own flags file, under a real mix."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from rig.servers import PostgresServer, RedisServer
from rig.waiting import wait_until
from support.lab.cli import Lab
from support.testbed.target import Target, make_shop_database, settings_document, target_folder

PLAN = {
    "timeout": 20,
    "experiment": {
        "qps": 20, "window_sec": 1.0, "warmup_sec": 0.2, "rounds": 2, "mix": "browse", "flow_policy": "fixed",
        "conc_cap": 6, "routing_mode": "qdrant",
    },
}  # fmt: skip


def test_rollout_on_the_shop_restores_or_applies_its_flags(
    postgres: PostgresServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    make_shop_database(postgres, "shop_rollout")
    with target_folder() as root:
        settings = settings_document(root, postgres=postgres, redis=redis_server, database="shop_rollout")
        with Target(root, settings) as target:
            wait_until(lambda: target.get("/api/lab/config")["ok"], what="a healthy shop")
            before = {name: target.get("/api/flags")[name] for name in ("control", "routing")}
            (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"base_url": target.url, **PLAN}))
            lab = Lab(tmp_path, {})

            outcome = lab.run("rollout", "run", "--config", "plan.yaml", "--headless", "--json", code=None)
            record = outcome.json["rollout"]

            assert outcome.code in {1, 2}, outcome
            assert len(record["windows"]) == 4
            assert all(window["completed"] == 20 for window in record["windows"])
            assert record["flags_restored"] is True
            assert {name: target.get("/api/flags")[name] for name in before} == before
            assert target.get("/ops/lab/report", mini=1)["message"].startswith(record["judgement"]["verdict"])

            subprocess.run(["sh", "-c", record["apply_command"]], check=True, capture_output=True, timeout=60)
            assert target.get("/api/flags")["control"]["max_concurrency"] == 6
            assert target.get("/api/flags")["routing"]["manual_backend"] == "qdrant"
            subprocess.run(["sh", "-c", record["rollback_command"]], check=True, capture_output=True, timeout=60)
            assert {name: target.get("/api/flags")[name] for name in before} == before
