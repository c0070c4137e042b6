"""Recipes in processes that need not import anything again.

`Forks()` starts one process that has imported what all recipes import, and nothing else: no thread
runs there and no tensor was computed, so that its copies are as good as new processes. Each recipe
gets such a copy, with a folder, an input and outputs of its own.
"""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"


class Forks:
    """The process with the imports; it ends with the `with` block."""

    def __init__(self, **environment):
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.environment = os.environ | {"PYTHONPATH": path, **environment}

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(60)

    def start(self, words, folder, said="", **environment):
        """`python WORDS` in `folder`, which gets `said` to read."""
        return Fork(self, words, folder, said, environment)

    def _ask(self, **request):
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


class Fork:
    def __init__(self, forks, words, folder, said, environment):
        folder = Path(folder)
        self._files = {name: folder / f".{name}" for name in ("in", "out", "err")}
        self._files["in"].write_text(said, encoding="utf-8")
        files = [str(path) for path in self._files.values()]
        request = {"words": [str(w) for w in words], "folder": str(folder), "files": files}
        self._ask = forks._ask
        self.number = self._ask(**request, environment=environment)["number"]

    def wait(self):
        """The exit status, what was printed, and what was printed to stderr."""
        answer = self._ask(wait=self.number)
        out, err = (self._files[name].read_text(encoding="utf-8") for name in ("out", "err"))
        return answer["status"], out, err

    def interrupt(self, when, by=signal.SIGTERM, seconds=400):
        """Sends a signal as soon as `when()` is true, or the process has ended."""
        end = time.monotonic() + seconds
        while not (when() or self._ask(ended=self.number)["ended"] or time.monotonic() > end):
            time.sleep(0.01)
        os.kill(self.number, by)  # which one that has ended, and was not waited for, ignores


# ---------------------------------------------------------------- the process with the imports


def _import_all():
    """What every recipe imports, and the model classes that transformers loads when asked."""
    from transformers import (  # noqa: F401
        BertForSequenceClassification,
        DebertaV2ForSequenceClassification,
        GPT2LMHeadModel,
    )

    for recipe in RECIPES.glob("*.py"):
        runpy.run_path(str(recipe), run_name="imported")


def _serve():
    _import_all()
    answers = os.fdopen(os.dup(1), "w")
    running = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = {"status": _status_of(request["wait"])}
            running.discard(request["wait"])
        elif "ended" in request:
            look = os.WEXITED | os.WNOHANG | os.WNOWAIT
            answer = {"ended": os.waitid(os.P_PID, request["ended"], look) is not None}
        else:
            number = os.fork()
            if number == 0:
                _become(**request)
            running.add(number)
            answer = {"number": number}
        print(json.dumps(answer), file=answers, flush=True)
    for number in running:  # of a test that failed
        os.kill(number, signal.SIGKILL)


def _status_of(number, seconds=400):
    """The exit status of a copy, which is killed when it takes longer than that."""
    end = time.monotonic() + seconds
    while (ended := os.waitpid(number, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.kill(number, signal.SIGKILL)
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(ended[1])


def _become(words, folder, files, environment):
    """Runs a script as `python` would, in this process."""
    status = 1
    try:
        os.chdir(folder)
        # One thread: on cores that others use, two that wait for each other are slower.
        os.sched_getaffinity = lambda _: {0}
        os.environ.update(environment)
        for target, (path, flags) in enumerate(
            zip(files, (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT | os.O_TRUNC] * 2), strict=True)
        ):
            os.dup2(os.open(path, flags), target)
        sys.stdin = os.fdopen(0, encoding="utf-8")
        sys.argv = words
        sys.path[0] = str(Path(words[0]).parent)
        runpy.run_path(words[0], run_name="__main__")
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
