"""Runs a user's script as ``python SCRIPT ARGS`` would, but recorded or under the debugger.

    python -m workbench.host [OPTIONS] SCRIPT ARGS

The script finds what it would find without us: `sys.argv`, `__name__ == "__main__"`, `__file__`, `sys.path[0]`, its exit status,
its own frames alone in its traceback.  Options, all before SCRIPT:

    --trace LEVEL       record at this level: times, values, full
    --logdir DIR        into a run directory here
    --run-file FILE     and write that directory's path to this file
    --socket PATH       listen here for a debugger's front end, and wait for it
    --line-buffered     write output line by line though it is no terminal
    --ask FILE          answer the question in this file (`workbench.asking`), which ends the script
    --guard PID         the process that watches over this one: end when it does
"""

from __future__ import annotations

import atexit
import builtins
import importlib.util
import io
import os
import signal
import sys
import types
import zipfile
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
OWN_FILES = (
    str(ROOT / "workbench" / "host.py"),
    str(ROOT / "workbench" / "asking.py"),
    str(ROOT / "workbench" / "debugger") + os.sep,
)
_VALUES = ("--trace", "--logdir", "--run-file", "--socket", "--ask", "--guard")
_FLAGS = ("--line-buffered",)


def main(arguments: list[str]) -> None:
    """Run the script that `arguments` name.  Raises what the script raises, SystemExit included."""
    options, script, args = parse(arguments)
    if "--guard" in options:
        die_with(int(options["--guard"]))
    if "--line-buffered" in options:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(line_buffering=True)
    program = _Program(script)

    sys.argv[:] = [script, *args]
    if options.keys() & {"--socket", "--ask"}:
        os.environ.pop("WORKBENCH_DEBUG", None)  # it is debugged, or asked, already
    if options.keys() & {"--trace", "--socket", "--ask"}:
        _hide_ourselves()
    agent = asker = None
    if "--ask" in options:
        asker = _ask(options["--ask"])
    if "--socket" in options:
        agent = _listen(Path(options["--socket"]), script, args)
    if "--trace" in options:
        _record(options, program.path)
    if not sys.flags.safe_path:
        sys.path[0] = program.entry
    _keep_importable()
    sys.modules["__main__"] = program.module

    outcome: BaseException | None = None
    try:
        program.run()
    except BaseException as error:
        outcome = error
    if asker is not None:
        asker.finish(outcome)
    end(outcome, agent)


def parse(arguments: list[str]) -> tuple[dict[str, str], str, list[str]]:
    """Our options, the script, and the script's arguments, which may look like options too."""
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("--"):
        name = rest.pop(0)
        if name in _FLAGS:
            options[name] = ""
        elif name in _VALUES and rest:
            options[name] = rest.pop(0)
        else:
            sys.exit(f"workbench.host: {name} is not an option, or needs a value")
    if not rest:
        sys.exit("workbench.host: which script? usage: python -m workbench.host [OPTIONS] SCRIPT ARGS")
    return options, rest[0], rest[1:]


def end(outcome: BaseException | None, agent: Any) -> None:
    """End as Python does after a script that raised `outcome`: raises it with our frames cut out of its traceback."""
    global _failure
    if type(outcome).__name__ == "Quit" and type(outcome).__module__ == "workbench.debugger.core":
        outcome = SystemExit(0)
    failed = outcome is not None and not isinstance(outcome, SystemExit)
    if outcome is not None and failed:
        cut(outcome)
        _failure = outcome
    elif code := exit_code(outcome):
        _failure = f"the script exited with status {code}"
    if agent is not None:
        _say_goodbye(agent, outcome if failed else None, exit_code(outcome))
    if outcome is None:
        return
    if failed:
        # Raising it from here puts this frame back; whoever prints the traceback gets the one that was cut.
        trace, hook = outcome.__traceback__, sys.excepthook
        sys.excepthook = lambda kind, error, _: hook(kind, error.with_traceback(trace), trace)
    raise outcome


def cut(error: BaseException) -> None:
    """Take our own frames out of the traceback of `error` and of the exceptions that led to it."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        kept = []
        trace = each.__traceback__
        while trace is not None:
            if not trace.tb_frame.f_code.co_filename.startswith(OWN_FILES):
                kept.append(trace)
            trace = trace.tb_next
        following: types.TracebackType | None = None
        for trace in reversed(kept):
            following = types.TracebackType(following, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)
        each.__traceback__ = following
        todo += [each.__cause__, each.__context__]


def exit_code(outcome: BaseException | None) -> int:
    """The exit status that Python ends with after `outcome`."""
    if outcome is None:
        return 0
    if isinstance(outcome, SystemExit):
        code = outcome.code
        return 0 if code is None else code & 0xFF if isinstance(code, int) else 1
    return 128 + signal.SIGINT if isinstance(outcome, KeyboardInterrupt) else 1


def die_with(guard: int) -> None:
    """Where the system can do that, be killed when the process `guard`, our parent, is."""
    if sys.platform.startswith("linux"):
        import ctypes

        set_parent_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != guard:
        os._exit(1)


class _Program:
    """What to execute: a file, or the ``__main__.py`` in a directory or zip file.  Ends the process if there is none.

    `module` is set up as the interpreter itself does it, `entry` goes first in `sys.path`.
    """

    def __init__(self, script: str) -> None:
        path = os.path.join(os.getcwd(), script)  # not normalized, as Python itself does not
        if os.path.isdir(path) or (os.path.isfile(path) and zipfile.is_zipfile(path)):
            self.entry = os.getcwd() if script == "." else path
            spec = PathFinder.find_spec("__main__", [self.entry])
            if spec is None or spec.origin is None:
                _give_up(f"there is no __main__.py in {script}")
            self.module = importlib.util.module_from_spec(spec)
            self.path = spec.origin
        elif os.path.isfile(path):
            self.entry = os.path.dirname(os.path.realpath(path))
            self.module = types.ModuleType("__main__")
            vars(self.module).update(
                __file__=path,
                __loader__=SourceFileLoader("__main__", path),
                __builtins__=builtins,
                __cached__=None,
            )
            self.path = path
        else:
            _give_up(f"there is no script {script}")
        if sys.version_info < (3, 14):
            vars(self.module)["__annotations__"] = {}

    def run(self) -> None:
        """Execute it.  Raises what it raises."""
        spec = self.module.__spec__
        if spec is not None:
            code = spec.loader.get_code("__main__")  # type: ignore[union-attr]  # files and zip files have code
        else:
            with io.open_code(self.path) as file:
                code = compile(file.read(), self.path, "exec", dont_inherit=True)
        exec(code, vars(self.module))


def _give_up(problem: str) -> NoReturn:
    print(f"workbench: {problem}", file=sys.stderr)
    sys.exit(2)


def _hide_ourselves() -> None:
    """Leave our frames out of the stacks that the engine notes."""
    from engine.types import site

    for prefix in OWN_FILES:
        site.hide(prefix)


def _record(options: dict[str, str], path: str) -> None:
    """Begin to record; the recording ends after everything else of the script's."""
    import tracing
    from tracing import api

    stem = Path(path).parent.name if Path(path).stem == "__main__" else Path(path).stem
    before = sys.modules["__main__"]
    try:
        sys.modules["__main__"] = types.ModuleType("__main__")
        sys.modules["__main__"].__file__ = path  # what the recording says it is of
        recorder = tracing.start(options.get("--logdir", "runs"), options["--trace"], stem)  # type: ignore[arg-type]
    except (tracing.RunError, ValueError) as error:
        _give_up(str(error))
    finally:
        sys.modules["__main__"] = before
    if "--run-file" in options:
        Path(options["--run-file"]).write_text(str(recorder.path))

    def stop() -> None:
        while api.stop(_failure) is not None:
            pass

    atexit.register(stop)


_failure: BaseException | str | None = None
"""What a recording says that the script failed with."""


def _listen(address: Path, script: str, args: list[str]) -> Any:
    """Install the debugger, and wait for its front end."""
    from engine.runtime import driver
    from workbench.debugger.agent import Agent

    agent = Agent(address, script=script, argv=tuple(args))
    driver.install(agent.debugger)
    # A forked child has no agent, so its steps would wait for commands for ever.
    os.register_at_fork(after_in_child=driver.uninstall)
    if not agent.connected.wait(60.0):
        _give_up("no debugger has connected")
    return agent


def _ask(file: str) -> Any:
    from workbench.asking import Asker

    asker = Asker(file)
    asker.install()
    return asker


def _say_goodbye(agent: Any, error: BaseException | None, code: int) -> None:
    from engine.runtime import driver
    from workbench.debugger.core import error_view

    driver.uninstall()
    agent.debugger.finish(error_view(error) if error is not None else None, code)
    agent.finished()


def _keep_importable() -> None:
    """Let the script import the engine even where this package is not installed but run from its source."""
    if not any(finder.find_spec("engine", None) for finder in sys.meta_path):
        sys.path.append(str(ROOT))


if __name__ == "__main__":
    # The module that is about to be replaced as __main__ must not be the one whose functions run.
    if not sys.flags.safe_path:
        sys.path[0] = str(ROOT)
    else:
        sys.path.append(str(ROOT))
    from workbench import host

    host.main(sys.argv[1:])
