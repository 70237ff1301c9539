"""Store trained policies in numbered files, with facts about the training. Reading a file executes no code in it."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from relab.builds.errors import BuildFolderError, PolicyModelError, PolicyModelMissingError, RlExtraMissingError
from relab.builds.optimizer.catalogue import CATALOGUE, CATALOGUE_VERSION
from relab.builds.optimizer.model_info import PolicyModelInfo
from relab.builds.optimizer.situation import FEATURES
from relab.builds.optimizer.value_network import Layer, ValueNetwork

FORMAT: Final = "relab-build-policy"
FORMAT_VERSION: Final = "1"
_MAX_BYTES: Final = 16 * 1_048_576
_NAME: Final = re.compile(r"dqn-([0-9]{4,9})\.safetensors")
_AGAIN: Final = "Train another one: lab builds train"


class ModelStore:
    """Writes and reads the files of trained policies: `dqn-0001.safetensors`, `dqn-0002.safetensors` and so on.

    All files are in one folder. The file with the highest number is in use.

    Args:
        folder: the folder; it may be missing.
        simulator_digest: the digest of the simulator that a policy must have been trained on.
    """

    def __init__(self, folder: Path, simulator_digest: str) -> None:
        self._folder = folder
        self._digest = simulator_digest

    def newest(self) -> Path | None:
        """Return the path of the newest trained policy (the file with the highest number); None without files."""
        numbers = self._numbers()
        return None if not numbers else self._path(max(numbers))

    def load(self) -> ValueNetwork:
        """Return the newest trained network.

        Raises:
            PolicyModelMissingError: there is no trained policy.
            PolicyModelError: the file cannot be read, or the network does not fit this version of relab.
            RlExtraMissingError: the extra that reads such files is not installed.
        """
        path = self.newest()
        if path is None:
            raise PolicyModelMissingError
        return read_model(path, self._digest)[0]

    def add(self, network: ValueNetwork, info: PolicyModelInfo) -> Path:
        """Write a trained network to a file with the next number, and return the path of the file.

        Raises:
            BuildFolderError: the file cannot be written.
            RlExtraMissingError: the extra that writes such files is not installed.
        """
        content = _encode(network, info)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".dqn-") as fresh:
                fresh.write(content)
                fresh.flush()
                # A temporary file is readable by its owner only, but a policy is no secret.
                Path(fresh.name).chmod(0o644)
                return self._named(Path(fresh.name))
        except OSError as error:
            raise BuildFolderError(
                f"{self._folder}: the trained policy cannot be written: {error.strerror}."
            ) from error

    def _named(self, fresh: Path) -> Path:
        while True:
            path = self._path(max(self._numbers(), default=0) + 1)
            try:
                # A link fails if another process has taken the number meanwhile; a rename would replace its file.
                os.link(fresh, path)
            except FileExistsError:
                continue
            return path

    def _numbers(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        return [int(match[1]) for path in self._folder.iterdir() if (match := _NAME.fullmatch(path.name))]

    def _path(self, number: int) -> Path:
        return self._folder / f"dqn-{number:04d}.safetensors"


def read_model(path: Path, simulator_digest: str) -> tuple[ValueNetwork, PolicyModelInfo]:
    """Return the network in the file at `path`, and the facts about its training.

    Args:
        path: the path of the file.
        simulator_digest: the digest of the simulator that the network must have been trained on.

    Raises:
        PolicyModelError: the file cannot be read, or the network does not fit this version of relab.
        RlExtraMissingError: the extra that reads such files is not installed.
    """
    try:
        from safetensors import SafetensorError, safe_open  # noqa: PLC0415 an extra
    except ImportError as error:
        raise RlExtraMissingError from error
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise PolicyModelError(f"{path}: the file is larger than {_MAX_BYTES:,} bytes.", remedy=_AGAIN)
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_format(path, metadata)
            info = PolicyModelInfo.model_validate_json(metadata.get("info", ""))
            _check_info(path, info, simulator_digest)
            return _network(path, {name: _tensor(path, file, name) for name in file.keys()}), info  # noqa: SIM118 no mapping
    except (OSError, SafetensorError, ValidationError) as error:
        raise PolicyModelError(f"{path}: this is no readable file of a trained policy.", remedy=_AGAIN) from error


def _tensor(path: Path, file: Any, name: str) -> Any:
    # NumPy lacks some types of the format, such as bfloat16.
    if file.get_slice(name).get_dtype() != "F32":
        raise PolicyModelError(f"{path}: {name[:100]!r} has no 32-bit floating-point numbers.", remedy=_AGAIN)
    return file.get_tensor(name)


def _encode(network: ValueNetwork, info: PolicyModelInfo) -> bytes:
    try:
        from safetensors.numpy import save  # noqa: PLC0415 an extra
    except ImportError as error:
        raise RlExtraMissingError from error
    tensors = {}
    for index, layer in enumerate(network.layers):
        tensors[f"layers.{index}.weight"] = np.ascontiguousarray(layer.weight, dtype=np.float32)
        tensors[f"layers.{index}.bias"] = np.ascontiguousarray(layer.bias, dtype=np.float32)
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "info": info.model_dump_json()}
    content: bytes = save(tensors, metadata=metadata)
    return content


def _check_format(path: Path, metadata: dict[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        raise PolicyModelError(f"{path}: the file holds no policy of builds (format {FORMAT}).", remedy=_AGAIN)
    version = metadata.get("format_version", "")
    if version != FORMAT_VERSION:
        raise PolicyModelError(
            f"{path}: the file has version {version[:20]!r} of the format; this relab reads version {FORMAT_VERSION!r}.",
            remedy=_AGAIN,
        )


def _check_info(path: Path, info: PolicyModelInfo, simulator_digest: str) -> None:
    for name, found, wanted in (
        ("catalogue_version", info.catalogue_version, CATALOGUE_VERSION),
        ("features", info.features, FEATURES),
        ("simulator_digest", info.simulator_digest, simulator_digest),
    ):
        if found != wanted:
            raise PolicyModelError(
                f"{path}: the policy was trained with {name} {str(found)[:200]}; this relab has {wanted}.",
                remedy=_AGAIN,
            )


def _network(path: Path, tensors: dict[str, Any]) -> ValueNetwork:
    layers = []
    width = len(FEATURES)
    for index in range(len(tensors) // 2):
        weight, bias = tensors.get(f"layers.{index}.weight"), tensors.get(f"layers.{index}.bias")
        if weight is None or bias is None or not _are_finite(weight, bias) or weight.shape != (len(bias), width):
            raise PolicyModelError(f"{path}: layer {index} is missing, or its numbers do not fit.", remedy=_AGAIN)
        layers.append(Layer(weight, bias))
        width = len(bias)
    if len(tensors) % 2 or not layers or width != len(CATALOGUE):
        raise PolicyModelError(f"{path}: the network does not have one output for each action.", remedy=_AGAIN)
    return ValueNetwork(tuple(layers))


def _are_finite(weight: Any, bias: Any) -> bool:
    return bool(
        weight.dtype == bias.dtype == np.float32
        and bias.ndim == 1
        and np.isfinite(weight).all()
        and np.isfinite(bias).all()
    )
