import os
import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.main import get_command

from glocal.cli import app

COMMANDS = [
    [],
    ["restore"],
    ["scan"],
    ["models"],
    ["models", "get"],
    ["models", "remove"],
    ["models", "pack"],
    ["export"],
    ["degrade"],
    ["evaluate"],
    ["analyze"],
    ["tune"],
    ["doctor"],
    ["import"],
    ["import", "maxim"],
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['glocal', *{command!r}, '--help']\n"
        "from glocal.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print('loaded', {'torch', 'numpy', 'pyvips'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage: glocal" in done.stdout
    assert done.stdout.endswith("loaded set()\n")


def test_help_shows_examples_and_default(run) -> None:
    help_text = run("restore", "--help").stdout
    assert "glocal restore photo.jpg" in help_text
    assert "nafnet-motion-blur" in help_text


def test_no_words_show_the_help(run) -> None:
    result = run()
    assert result.exit_code == 2
    assert "Usage: glocal" in result.output


def test_version(run) -> None:
    assert run("--version").stdout == f"glocal {version('glocal')}\n"


def test_unknown_commands_exit_with_2(run) -> None:
    assert run("restor").exit_code == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns(run, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run(*command, "--help").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    group = get_command(app)
    for name in command:
        group = group.commands[name]
    text = "\n".join(lines)
    for parameter in group.params:
        for option in parameter.opts:
            assert option in text or parameter.param_type_name == "argument", option
        if parameter.metavar:
            assert parameter.metavar in text
    for example in (group.epilog or "").split("\n\n")[1:]:
        assert f" {example}".ljust(80) in lines or f" {example}" in map(str.rstrip, lines), example


def test_threads_that_wait_sleep_unless_the_user_wants_otherwise() -> None:
    code = "import os, sys; from glocal.cli import main; sys.argv[1:] = ['--version']\n"
    code += "try:\n    main()\nfinally:\n    print(os.environ['OMP_WAIT_POLICY'])\n"
    for given, expected in ((None, "passive"), ("active", "active")):
        env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        env |= {"OMP_WAIT_POLICY": given} if given else {}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
        )
        assert done.stdout.splitlines()[-1] == expected
