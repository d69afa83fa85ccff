"""Signals as a person's terminal leaves them, whoever started the tests: one in the background has Ctrl-C ignored.

What is ignored here is ignored by every command that a test starts, and a test of Ctrl-C would wait for ever.
"""

import signal

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Give the signals of a terminal their default, which programs that a test starts inherit."""
    del config
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
