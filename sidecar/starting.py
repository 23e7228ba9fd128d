"""From flags, variables and a document to a sidecar that runs, or to every problem at once.

Apart from ``sidecar.commands``, whose click a process would keep 2 MB of for its life: who starts sidecars by the
thousand writes their flags plainly (``plain_flags``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from sidecar.last_words import leave
from sidecar.settings import Given, SettingsError, SidecarSettings, load
from sidecar.settings_sources import SETTINGS, given_by_document, given_by_environment, given_by_flags

_FLAGS: Final = {f"--{setting.key}": setting.key for setting in SETTINGS}


def plain_flags(words: Sequence[str]) -> dict[str, str] | None:
    """Settings by key, where ``words`` are nothing but ``--key VALUE`` of settings, none of them twice; else None, and
    the command's own reader (``sidecar.commands``) knows what they are, or what is wrong with them."""
    keys = [_FLAGS.get(word) for word in words[::2]]
    given = {key: value for key, value in zip(keys, words[1::2], strict=False) if key is not None}
    return given if 2 * len(given) == len(words) else None


def run_or_tell(config: Path | None, flags: Mapping[str, str | None]) -> int:
    """Run until it is told to end; the exit status. Problems go to standard error, one a line, and the status is 2."""
    settings = settings_or_tell(config, flags)
    if settings is None:
        return 2
    from sidecar.app import run

    return run(settings)


def settings_or_tell(config: Path | None, flags: Mapping[str, str | None]) -> SidecarSettings | None:
    """All settings; None if they are not fit, and then every problem is told."""
    problems: list[str] = []
    sources: list[dict[str, Given]] = []
    readings: list[Callable[[], dict[str, Given]]] = [
        lambda: given_by_environment(os.environ),
        lambda: given_by_flags(flags),
    ]
    if config is not None:
        readings.insert(0, lambda: given_by_document(config))
    for reading in readings:
        try:
            sources.append(reading())
        except SettingsError as error:
            problems.extend(error.problems)
    if not problems:
        try:
            settings = load(*sources)
            _check_bundle(settings)
            _check_tracing(settings)
            return settings
        except SettingsError as error:
            problems.extend(error.problems)
    for problem in problems:
        print(problem, file=sys.stderr)
    leave("\n".join(problems))
    return None


def _check_bundle(settings: SidecarSettings) -> None:
    """A bundle file that is unfit is bad input, as long as nothing runs yet; later it may only be left alone."""
    trust = settings.identity.trust
    if trust.bundle_file is not None:
        from sidecar.identity.anchor import read_bundle

        try:
            read_bundle(trust.bundle_file, settings.identity.spiffe_id.trust_domain)
        except ValueError as error:
            raise SettingsError([f"--bundle: {error}"]) from error


def _check_tracing(settings: SidecarSettings) -> None:
    if settings.tracing is None:
        return
    from sidecar.tracing.settings import missing_packages, read_headers

    missing = missing_packages()
    if missing is not None:
        raise SettingsError([f"--tracing-endpoint: {missing}"])
    if settings.tracing.headers_file is not None:
        try:
            read_headers(settings.tracing.headers_file)
        except ValueError as error:
            raise SettingsError([f"--tracing-headers-file: {error}"]) from error
