"""Files of trained policies: numbered, read as data, and rejected if they are damaged or of another version."""

from __future__ import annotations

import itertools
import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relab.builds.errors import PolicyModelError, PolicyModelMissingError
from relab.builds.optimizer.catalogue import CATALOGUE, CATALOGUE_VERSION
from relab.builds.optimizer.model_info import CurvePoint, PolicyModelInfo
from relab.builds.optimizer.model_store import FORMAT, FORMAT_VERSION, ModelStore, read_model
from relab.builds.optimizer.policies.network import NetworkPolicy
from relab.builds.optimizer.situation import FEATURES
from relab.builds.optimizer.value_network import Layer, ValueNetwork
from support.components.rl import require_rl

DIGEST = "d" * 64


def network(seed: int = 0) -> ValueNetwork:
    generator = np.random.default_rng(seed)
    sizes = [len(FEATURES), 4, len(CATALOGUE)]
    return ValueNetwork(
        tuple(
            Layer(generator.normal(size=(out, into)).astype(np.float32), generator.normal(size=out).astype(np.float32))
            for into, out in itertools.pairwise(sizes)
        )
    )


def info(**changed: Any) -> PolicyModelInfo:
    return PolicyModelInfo(
        **{
            "catalogue_version": CATALOGUE_VERSION,
            "features": FEATURES,
            "simulator_digest": DIGEST,
            "builds": 1_000,
            "seed": 0,
            "trained_at": 1_000_000,
            "curve": (CurvePoint(builds=1_000, reward=0.3),),
            **changed,
        }
    )


def test_network_policy_prefers_the_possible_action_with_the_highest_value() -> None:
    weight = np.zeros((len(CATALOGUE), len(FEATURES)), dtype=np.float32)
    policy = NetworkPolicy(ValueNetwork((Layer(weight, np.arange(len(CATALOGUE), dtype=np.float32)),)))

    chances = policy.propensities([1.0] * len(FEATURES), [0, 3, 1], np.random.default_rng(0))

    assert chances.argmax() == 1
    assert chances.sum() == pytest.approx(1)
    assert chances.min() > 0


def test_store_without_a_model_says_how_to_train_one(tmp_path: Path) -> None:
    with pytest.raises(PolicyModelMissingError, match="lab builds train"):
        ModelStore(tmp_path / "missing", DIGEST).load()


@pytest.mark.rl
class TestFiles:
    """Model files; writing and reading them needs the extra `[rl]`."""

    @pytest.fixture(autouse=True)
    def _extra(self) -> None:
        require_rl()

    def test_the_newest_file_is_loaded_and_older_ones_stay(self, tmp_path: Path) -> None:
        store = ModelStore(tmp_path / "models", DIGEST)
        first, second = store.add(network(1), info()), store.add(network(2), info(builds=2_000))

        features = [1.0] * len(FEATURES)
        assert [path.name for path in (first, second)] == ["dqn-0001.safetensors", "dqn-0002.safetensors"]
        assert store.load().values(features) == pytest.approx(network(2).values(features))
        assert read_model(first, DIGEST)[0].values(features) == pytest.approx(network(1).values(features))
        assert read_model(second, DIGEST)[1] == info(builds=2_000)
        assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [first.name, second.name]

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            ({"catalogue_version": 99}, "catalogue_version 99"),
            ({"features": ("constant",)}, "features"),
            ({"simulator_digest": "e" * 64}, "simulator_digest e"),
        ],
    )
    def test_model_for_another_version_is_rejected_by_name(
        self, tmp_path: Path, changed: dict[str, Any], named: str
    ) -> None:
        store = ModelStore(tmp_path, DIGEST)
        store.add(network(), info(**changed))

        with pytest.raises(PolicyModelError, match=named) as raised:
            store.load()
        assert "lab builds train" in str(raised.value)

    def test_file_of_another_format_version_is_rejected(self, tmp_path: Path) -> None:
        path = ModelStore(tmp_path, DIGEST).add(network(), info())
        path.write_bytes(path.read_bytes().replace(b'"format_version":"1"', b'"format_version":"2"'))

        with pytest.raises(PolicyModelError, match="version '2' of the format"):
            read_model(path, DIGEST)

    @pytest.mark.parametrize("damage", ["truncated", "empty", "pickle", "huge header", "not finite"])
    def test_damaged_or_hostile_file_is_rejected_and_nothing_in_it_is_executed(
        self, tmp_path: Path, damage: str
    ) -> None:
        store = ModelStore(tmp_path, DIGEST)
        path = store.add(network(), info())
        content = path.read_bytes()
        marker = tmp_path / "executed"
        if damage == "not finite":
            broken = network()
            broken.layers[0].weight[0, 0] = np.nan
            path = store.add(broken, info())
        else:
            path.write_bytes(
                {
                    "truncated": content[: len(content) // 2],
                    "empty": b"",
                    "pickle": pickle.dumps(_Executes(str(marker))),
                    "huge header": b"\xff" * 8 + content[8:],
                }[damage]
            )

        with pytest.raises(PolicyModelError):
            read_model(path, DIGEST)
        assert not marker.exists()

    @pytest.mark.parametrize(("dtype", "shape"), [("F32", []), ("BF16", [2]), ("F8_E4M3", [4]), ("I32", [1])], ids=str)
    def test_tensor_of_another_type_or_shape_is_rejected(self, tmp_path: Path, dtype: str, shape: list[int]) -> None:
        metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "info": info().model_dump_json()}
        names = ("layers.0.weight", "layers.0.bias")
        tensors = {
            name: {"dtype": dtype, "shape": shape, "data_offsets": [4 * index, 4 * index + 4]}
            for index, name in enumerate(names)
        }
        header = json.dumps({"__metadata__": metadata, **tensors}).encode()
        path = tmp_path / "dqn-0001.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))

        with pytest.raises(PolicyModelError, match=re.escape(str(path))):
            read_model(path, DIGEST)


class _Executes:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self._path),)
