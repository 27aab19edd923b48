"""The rooms of the house: which may import which, as docs/architecture.md says, and nothing upwards."""

import ast
import re

from support import ROOT

PACKAGE = ROOT / "meshdemo"
(LINES,) = re.findall(r"```text\nmeshdemo rooms.*\n((?:.+\n)+)```", (ROOT / "docs/architecture.md").read_text())
ALLOWED = {room: set(filter(None, below.split(", "))) for room, below in re.findall(r"(\S+) ->(?: (.*))?", LINES)}
ORDER = list(ALLOWED)
# The modules that stand in no folder: those of the command line, and the ground.
COMMAND_LINE = {"__main__", "options", "parameters"}


def room_of(module, rooms):
    """Return the room of a module, such as lab/quick/rules or lab/engine, by its path below meshdemo/."""
    parts = module.split("/")
    for length in range(len(parts), 0, -1):
        if (room := "/".join(parts[:length])) in rooms:
            return room
    assert len(parts) == 1, f"docs/architecture.md does not name the room of {module}"
    return "cli" if module in COMMAND_LINE else "ground"


def imports(path):
    """Yield the modules of this program that a file imports, for types as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            names = [node.args[0].value] if isinstance(node.args[0], ast.Constant) else []
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "meshdemo":
                # The last part of what `from` imports may be a module, or a name in one.
                while len(parts) > 1 and not (is_module(parts) or (ROOT / "/".join(parts)).is_dir()):
                    parts.pop()
                yield "/".join(parts[1:]) or "__init__"


def is_module(parts):
    return ROOT.joinpath(*parts).with_suffix(".py").is_file()


def draw_arrows(rooms):
    """Return for each room the rooms that its modules import, and by which modules."""
    arrows = {room: {} for room in rooms}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = "/".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("/__init__")
        for imported in imports(path):
            room, other = room_of(module, rooms), room_of(imported, rooms)
            if room != other:
                arrows[room].setdefault(other, []).append(f"{module} imports {imported}")
    return arrows


def test_rooms_import_what_the_list_says():
    """Each arrow between rooms stands in the list of docs/architecture.md, and each in the list is drawn."""
    arrows = draw_arrows(ORDER)
    unlisted = {room: {to: by for to, by in arrows[room].items() if to not in ALLOWED[room]} for room in ORDER}
    assert {room: found for room, found in unlisted.items() if found} == {}
    assert {room: set(arrows[room]) for room in ORDER} == ALLOWED


def test_no_arrow_leads_upwards():
    """A room imports only what stands below it, so that there is no circle."""
    upwards = [(room, to) for room in ORDER for to in ALLOWED[room] if ORDER.index(to) <= ORDER.index(room)]
    assert upwards == []


def test_every_room_is_there():
    """The list has every folder, and nothing that is not there."""
    folders = {str(path.parent.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py")} - {"."}
    rooms = set(ORDER) - {"ground"}
    assert folders <= rooms
    assert all((PACKAGE / f"{room}.py").is_file() for room in rooms - folders)


def test_a_role_stands_for_itself():
    """A role imports neither the command line nor the server that runs it."""
    for role in ("webserver", "proxy"):
        assert not {"serving/server", *COMMAND_LINE} & set(imports(PACKAGE / "roles" / f"{role}.py"))


def test_each_room_says_what_it_is_for():
    """The docstring of each package says in its first line what it is for, and then what may not be in it."""
    for path in PACKAGE.rglob("__init__.py"):
        first, _, rest = ast.get_docstring(ast.parse(path.read_text())).partition("\n\n")
        assert first.endswith(".") and re.search(r"(^|\s)Nothing here .+\.$", rest, re.DOTALL), path


def test_packages_hold_no_code():
    """A package's `__init__` has its docstring, at most names of its modules, and the version."""
    for path in PACKAGE.rglob("__init__.py"):
        _, *rest = ast.parse(path.read_text()).body
        assert all(isinstance(each, ast.ImportFrom | ast.Assign) for each in rest), path
