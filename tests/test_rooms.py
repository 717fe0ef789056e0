"""The rooms of the package stand in one order, and a module imports only from its own room and those before it."""

import ast
from pathlib import Path

import dynabert_hf

ROOMS = (
    ("model",),
    ("messages",),
    ("families", "task_metrics", "files"),
    ("tasks",),
    ("data",),
    ("onnx",),
    ("sizes",),
    ("hub",),
    ("training",),
    ("cli",),
)
PACKAGE = Path(dynabert_hf.__file__).parent


def imported_rooms(path):
    """The rooms, or free modules, that a module imports from."""
    own = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            place = [*own[: len(own) + 1 - node.level], *(node.module or "").split(".")]
            named = [part for part in place if part] or [name.name for name in node.names]
            yield named[0]


def test_a_module_imports_only_from_its_room_and_those_before_it():
    floors = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
    modules = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]
    assert {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules} == set(floors)
    for path in modules:
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for other in imported_rooms(path):
            is_before = floors[other] < floors[room] or other == room
            assert is_before, f"{path.relative_to(PACKAGE)} imports from {other}, which stands after {room}"
