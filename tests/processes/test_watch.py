"""`orrery watch` and completion as a person has them: real terminals, real pipes, a real shell."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fcntl import ioctl
from functools import partial
from pathlib import Path

import pytest

from orrery.cli import main
from tests.processes import harness
from tests.unit.local import planner
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.process

PLUGIN = str(Path(sys.executable).with_name("kubectl-orrery"))
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def orrery(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "orrery", *arguments]


def _as_a_shell_would() -> None:
    """The terminal is this process's, and its Ctrl-C ends it, also where tests run in the background and ignore that."""
    ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def on_terminal(
    command: list[str], cwd: Path, typed: Callable[[str], str] = lambda seen: "", **environment: str
) -> tuple[int, str]:
    """Exit code and all that a terminal of 100 columns was sent; ``typed`` answers, once, to what was seen so far."""
    mine, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "CI")}
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env={**env, "TERM": "xterm-256color", **environment},
        start_new_session=True,
        preexec_fn=_as_a_shell_would,
    )
    os.close(theirs)
    seen, written, deadline = b"", 0, time.monotonic() + 60 * PATIENCE
    with suppress(OSError):  # EIO: the other side is closed
        while time.monotonic() < deadline:
            if select.select([mine], [], [], 0.2)[0]:
                data = os.read(mine, 65536)
                if not data:
                    break
                seen += data
            if not written and (keys := typed(seen.decode(errors="replace"))):
                written = os.write(mine, keys.encode())
    os.close(mine)
    return process.wait(60), seen.decode(errors="replace")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A plan that the engine answers in the background: (working directory, state folder).

    Its probe runs until there is a file ``open`` in the working directory.
    """
    state = tmp_path / ".orrery" / "default" / "slow"
    stop = harness.engine.Stop()
    options = {"stop": stop, "environment": {"STUB_GATE": str(tmp_path / "open")}}
    work = threading.Thread(target=harness.answer, args=(planner.plan("gate", deadline=240), state), kwargs=options)
    work.start()
    until(lambda: list(state.glob("probes/*/attempt-1/started.json")), 30, every=0.02)
    yield tmp_path, state
    stop.ask()
    stop.ask()
    work.join()


def test_terminal_and_pipe_show_probes_and_money_until_the_answer(running: tuple[Path, Path]) -> None:
    work, state = running
    watching = [threading.Event(), threading.Event()]

    def look(which: int, seen: str) -> str:
        if "of at most" in seen:
            watching[which].set()
        return ""

    with ThreadPoolExecutor() as both:
        terminal = both.submit(on_terminal, orrery("watch", str(state)), work, partial(look, 0))
        bare = both.submit(on_terminal, orrery("watch"), work, partial(look, 1), NO_COLOR="1")
        piped = subprocess.Popen(
            orrery("watch", str(state)), cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert piped.stdout is not None
        first = piped.stdout.readline()
        until(lambda: all(event.is_set() for event in watching) or terminal.done() or bare.done(), 50)
        (work / "open").touch()
        rest, complaints = piped.communicate(timeout=60 * PATIENCE)
        (code, seen), (bare_code, colourless) = terminal.result(), bare.result()
    text = ESCAPE.sub("", seen)
    assert code == bare_code == piped.returncode == 0 and complaints == ""
    assert re.search(r"\d:\d\d of at most 4:00 +m0, 2 ZeroShot", text), text
    assert "spent" in text and "reserved of 1.00 USD" in text and "default/stub  Answered" in text
    colours = r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;)"
    assert re.search(colours, seen) and "Answered" in colourless and not re.search(colours, colourless)
    lines = [json.loads(line) for line in (first + rest).splitlines()]
    assert 2 <= len(lines) < 20, "a line that says nothing new"
    assert lines[0]["probes"][0]["state"] == "running" and not lines[0]["settled"]
    last = lines[-1]
    assert last["settled"] and last["phase"] == "Answered" and last["probes"] == []
    assert float(last["spent"]) > 0 and float(last["budget"]) == 1


def test_ctrl_c_ends_it_in_good_order(running: tuple[Path, Path]) -> None:
    work, _ = running
    code, seen = on_terminal(orrery("watch"), work, lambda seen: "\x03" if "of at most" in seen else "")
    assert code == 0 and "Traceback" not in seen
    done = subprocess.run(
        orrery("watch", "--once"), cwd=work, capture_output=True, text=True, check=False, timeout=60 * PATIENCE
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1


def test_nothing_to_watch_is_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(orrery("watch"), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "`orrery run` one first" in done.stderr and "Traceback" not in done.stderr
    env = {**os.environ, "KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [PLUGIN, "watch", "--once"], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "set KUBECONFIG" in done.stderr and "Traceback" not in done.stderr


def completed(words: str, cwd: Path) -> list[str]:
    """What bash offers for these words, the last of which is being written, with the script that typer installs."""
    home = cwd / "home"
    home.mkdir(exist_ok=True)
    bin_folder = Path(sys.executable).parent
    env = {**os.environ, "HOME": str(home), "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    if not (home / ".bashrc").exists():
        done = subprocess.run(
            ["bash", "-c", "orrery --install-completion; true"], env=env, capture_output=True, text=True, check=False
        )
        assert "completion installed in" in done.stdout, done.stderr
    *_, last = parts = words.split(" ")
    script = f"""source {home}/.bash_completions/orrery.sh
COMP_WORDS=({" ".join(repr(part) for part in parts)}); COMP_CWORD={len(parts) - 1}
_orrery_completion orrery {last!r}; printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", script], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_options_plans_states_and_candidates(tmp_path: Path) -> None:
    state = tmp_path / ".orrery" / "default" / "done"
    harness.answer(planner.plan("good"), state)
    (tmp_path / "plans").mkdir()
    for name in ("a.yaml", "notes.txt"):
        (tmp_path / "plans" / name).write_text("")
    assert completed("orrery wa", tmp_path) == ["watch"]
    assert "--namespace" in completed("orrery watch --na", tmp_path)
    assert completed("orrery run plans/", tmp_path) == ["plans/a.yaml"]
    assert completed("orrery explain .orrery/d", tmp_path) == [".orrery/default/done"]
    (state / "results.jsonl").write_text('{"model":"m0","strategy":"lora","configuration":[["rank","8"]]}\n')
    assert completed("orrery explain .orrery/default/done lo", tmp_path) == ["lora"]


def test_help_answers_at_once() -> None:
    took = []
    for _ in range(3):
        before = os.times()
        subprocess.run(orrery("--help"), check=True, capture_output=True)
        after = os.times()
        took.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(took) < 0.5, took
    assert set(main.COMMANDS) >= {"watch", "explain"}
