"""What a failed test leaves behind is its own: hooks for pytest that keep it from failing the tests after it.

A test that passes must close what it opened: warnings are errors, and what is still open when it is let go of warns. A
test that fails stops anywhere, and its traceback keeps alive what it had opened; the warnings would then come while
another test runs, and fail that one, whichever it is. So what a failed test left is let go of before the next begins,
and no warning tells of it.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import warnings
from collections.abc import Generator, Iterator
from typing import Final

import pytest

_FAILED: Final = pytest.StashKey[bool]()
_WHERE_PYTEST_KEEPS_A_FAILURE: Final = ("last_type", "last_value", "last_traceback", "last_exc")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Once a phase has failed, the loop may close over what is still open in it; pytest takes the filter back after the
    last."""
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
        warnings.simplefilter("ignore", ResourceWarning)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    """Let go of what the traceback of a failed test holds, before the next begins."""
    done = yield
    if item.stash.get(_FAILED, False):
        with _in_silence():
            for name in _WHERE_PYTEST_KEEPS_A_FAILURE:
                with contextlib.suppress(AttributeError):
                    delattr(sys, name)
            logged = item.config.pluginmanager.get_plugin("logging-plugin")
            logged.caplog_handler.reset()  # records have tracebacks, too
            logged.report_handler.reset()
            gc.collect()
    return done


@contextlib.contextmanager
def _in_silence() -> Iterator[None]:
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = hook
