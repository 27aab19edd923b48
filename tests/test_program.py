"""How the program starts itself again."""

import os
import subprocess

from support import ROOT

from meshdemo.program import command_line


def test_the_current_folder_is_not_on_the_module_path(tmp_path):
    """What lies in the current folder is neither run nor in the way, whatever it is called; PYTHONPATH still counts."""
    for name in ("meshdemo", "queue", "click", "requests"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)\n")
    done = subprocess.run(command_line("--version"), cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "click.py").write_text("raise SystemExit(9)\n")
    path = os.pathsep.join([str(beside), str(ROOT)])
    assert subprocess.run(command_line("--version"), env={**os.environ, "PYTHONPATH": path}).returncode == 9


def test_there_is_no_other_way():
    """No module starts the program by words of its own."""
    spelled = [path.name for path in (ROOT / "meshdemo").rglob("*.py") if '"-m", "meshdemo"' in path.read_text()]
    assert spelled == ["program.py"]
