"""The weights of several ONNX graphs in one file: a small size is the beginning of a large one, so bytes are shared."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..model.anatomy import HIDDEN
from ..model.elastic_model import ElasticModelMixin

_STORED = ".stored"  # ends the names of weights that the graph turns
_ALIGNMENT = 4096  # so that a runtime can map each tensor
_MAPPED = 2**16  # bytes; smaller tensors are read, whatever their place
_SMALLEST_SHARED = 256  # bytes; smaller tensors stay in the graph


@dataclass
class Blob:
    """A tensor of the full model whose beginning small sizes use, and how much of it is needed."""

    array: np.ndarray
    needed: int = 0
    offset: int = 0


@dataclass
class WeightPool:
    """The weights of all sizes, each stored once.

    A tensor that is narrower than its original in its first axis is a prefix of it. Linears that are cut in their
    outputs are stored as torch has them, `(out, in)`, and turned in the graph, which the runtime does once, when it
    loads; those cut in their inputs are stored turned.
    """

    model: ElasticModelMixin
    blobs: dict[Any, list[Blob]] = field(default_factory=dict)
    users: list[tuple[Any, Blob]] = field(default_factory=list)

    def __post_init__(self) -> None:
        turned = set()
        for layer in self.model.elastic_layers.stored:
            for _, role, linear in self.model.config.anatomy.linears_of(layer):
                if role.inputs != HIDDEN:
                    turned.add(id(linear.weight))
        for parameter in self.model.parameters():
            array = parameter.detach().float().cpu().numpy()
            self._add(np.ascontiguousarray(array.T) if id(parameter) in turned else array)

    def _add(self, array: np.ndarray) -> Blob:
        blob = Blob(array)
        self.blobs.setdefault(_key(array), []).append(blob)
        return blob

    def _find(self, array: np.ndarray) -> Blob | None:
        for blob in self.blobs.get(_key(array), ()):
            if len(blob.array) >= len(array) and np.array_equal(blob.array[: len(array)], array):
                return blob
        return None

    def take(self, graph: Any) -> Any:
        """Take the large tensors out of a graph, in place, and return it."""
        from onnx import helper, numpy_helper

        transposes = []
        for tensor in graph.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.nbytes < _SMALLEST_SHARED or array.ndim == 0:
                continue
            blob = self._find(array)
            if blob is None and array.ndim == 2:
                blob = self._find(np.ascontiguousarray(array.T))
                if blob is not None:
                    name = tensor.name
                    tensor.name = f"{name}{_STORED}"
                    tensor.dims[:] = array.T.shape
                    transposes.append(helper.make_node("Transpose", [tensor.name], [name], perm=[1, 0]))
            blob = blob or self._add(array)
            blob.needed = max(blob.needed, array.nbytes)
            tensor.ClearField("raw_data")
            self.users.append((tensor, blob))
            tensor.external_data.add(key="length", value=str(array.nbytes))
        nodes = [*transposes, *graph.graph.node]
        del graph.graph.node[:]
        graph.graph.node.extend(nodes)
        return graph

    def write(self, path: Path, graphs: dict[Path, Any]) -> None:
        """Write the bytes that any graph needs, point the graphs to them, and write the graphs."""
        with path.open("wb") as file:
            for blob in {id(blob): blob for _, blob in self.users}.values():
                file.write(b"\0" * (-file.tell() % _ALIGNMENT))
                blob.offset = file.tell()
                file.write(blob.array.tobytes()[: blob.needed])
        for tensor, blob in self.users:
            tensor.data_location = 1  # external
            tensor.external_data.add(key="location", value=path.name)
            tensor.external_data.add(key="offset", value=str(blob.offset))
        for graph_path, graph in graphs.items():
            graph_path.write_bytes(graph.SerializeToString())


def _key(array: np.ndarray) -> Any:
    """Equal for a tensor and its beginnings."""
    return array.shape[1:], array.dtype.str, array[:1].tobytes()


def turn_stored(graph: Any) -> None:
    """Undo, in place, what `WeightPool.take` did to linears: only weights that reach them directly are quantised."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in graph.graph.initializer if tensor.name.endswith(_STORED)}
    for node in [node for node in graph.graph.node if node.op_type == "Transpose" and node.input[0] in stored]:
        tensor = stored[node.input[0]]
        array = np.ascontiguousarray(numpy_helper.to_array(tensor).T)
        tensor.CopyFrom(numpy_helper.from_array(array, node.output[0]))
        graph.graph.node.remove(node)
    own = {tensor.name for tensor in graph.graph.initializer}  # onnxruntime turns some, and keeps what is told of them
    told = [each for each in graph.graph.value_info if each.name not in own]
    del graph.graph.value_info[:]
    graph.graph.value_info.extend(told)


def write_sharing_equal(folder: Path, graphs: Mapping[str, Any], weights: str) -> dict[str, int]:
    """Write graphs, by their file names, into a folder; tensors that are equal lie once, in a file beside them.

    Args:
        folder: The folder.
        graphs: The graphs, whose tensors are taken out, in place.
        weights: Name of the file of the tensors.

    Returns:
        How many bytes each graph needs, with its tensors.
    """
    from onnx import numpy_helper

    places: dict[bytes, int] = {}
    needed = {}
    with (folder / weights).open("wb") as file:
        for name, graph in graphs.items():
            length = 0
            for tensor in graph.graph.initializer:
                content = numpy_helper.to_array(tensor).tobytes()
                if len(content) < _SMALLEST_SHARED:
                    continue
                digest = hashlib.sha256(content).digest()
                if digest not in places:
                    file.write(b"\0" * (-file.tell() % (_ALIGNMENT if len(content) >= _MAPPED else 64)))
                    places[digest] = file.tell()
                    file.write(content)
                for stored in ("raw_data", "float_data", "int32_data", "int64_data"):
                    tensor.ClearField(stored)
                tensor.data_location = 1  # external
                place = {"location": weights, "offset": places[digest], "length": len(content)}
                for key, value in place.items():
                    tensor.external_data.add(key=key, value=str(value))
                length += len(content)
            needed[name] = length + (folder / name).write_bytes(graph.SerializeToString())
    return needed
