"""Long work, plain terminals and shells."""

import os
import subprocess
import sys

import pytest

from onnx2snn.cli import COMMANDS
from onnx2snn.console import ProgressLines


def call(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "onnx2snn", *arguments], capture_output=True, text=True,
        timeout=120, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def test_lines_of_progress_tell_the_time_left():
    told, now = [], [0.0]
    progress = ProgressLines(told.append, lambda: now[0])
    for done in range(101):
        now[0] = done * 3.0
        progress("evaluate", done, 100)
    assert told[0] == "evaluate: 10 of 100, 270 s left"
    assert told[-1] == "evaluate: 100 of 100, 0 s left" and len(told) == 10


def test_quick_work_is_silent_and_slow_work_is_not_flooded():
    told, now = [], [0.0]
    progress = ProgressLines(told.append, lambda: now[0])
    for done in range(101):
        now[0] = done * 0.05
        progress("calibrate", done, 100)
    assert told == []
    for done in range(1001):
        now[0] += 100.0
        progress("check", done, 1000)
    assert len(told) == 10 and all(line.startswith("check: ") for line in told)


def test_work_that_begins_again_is_told_again():
    """As the typical method does, in rounds of more and more steps."""
    told, now = [], [0.0]
    progress = ProgressLines(told.append, lambda: now[0])
    for _ in range(2):
        for done in range(5):
            now[0] += 20.0
            progress("evaluate", done, 4)
    assert told == 2 * [
        "evaluate: 1 of 4, 60 s left", "evaluate: 2 of 4, 40 s left",
        "evaluate: 3 of 4, 20 s left", "evaluate: 4 of 4, 0 s left",
    ]  # fmt: skip


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(shell):
    pytest.importorskip("shtab", reason="needs the extra 'completion'")
    done = call("--print-completion", shell)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command in done.stdout
    assert shell == "tcsh" or "--timesteps" in done.stdout  # shtab's tcsh has commands only


def test_bash_takes_the_completion(tmp_path):
    pytest.importorskip("shtab", reason="needs the extra 'completion'")
    script = tmp_path / "onnx2snn.bash"
    script.write_text(call("--print-completion", "bash").stdout)
    asked = (
        f"source {script}; COMP_WORDS=(onnx2snn ev); COMP_CWORD=1; "
        "_shtab_onnx2snn; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["eval"], done.stderr


def test_an_unknown_shell_is_a_usage_error():
    pytest.importorskip("shtab", reason="needs the extra 'completion'")
    done = call("--print-completion", "nosuchshell")
    assert done.returncode == 2 and "bash" in done.stderr


def test_a_missing_library_is_named(tmp_path):
    (tmp_path / "shtab.py").write_text("raise ImportError('hidden')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = call("--print-completion", "bash", PYTHONPATH=path)
    assert done.returncode == 2 and "pip install 'onnx2snn[completion]'" in done.stderr


def test_help_imports_nothing_heavy():
    """What makes --help slow is imports: none of the large libraries may be among them."""
    code = (
        "import sys\nfrom onnx2snn.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({n.split('.')[0] for n in sys.modules} & "
        "{'numpy', 'onnx', 'onnxruntime', 'rich', 'matplotlib', 'jinja2', 'shtab', 'nir', 'PIL'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout[-500:]


def test_no_color_is_honoured_even_where_colour_is_forced():
    forced = call("ops", FORCE_COLOR="1", NO_COLOR="1")
    assert forced.returncode == 0 and "\x1b[3" not in forced.stdout


def test_work_of_unknown_length_tells_how_much_is_done():
    told, now = [], [0.0]
    progress = ProgressLines(told.append, lambda: now[0])
    for trial in range(1, 31):
        now[0] = float(trial)
        progress("tune", trial, 0)
    assert told == ["tune: 11 so far, 10 s", "tune: 21 so far, 20 s"]
