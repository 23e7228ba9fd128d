"""``ringfence k8s inject``: the webhook's patch, offline, into files."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from k8s.inject.documents import Told, inject_document
from k8s.inject.settings import InjectSettings, InjectSettingsError, read_settings
from k8s.inject.yaml_text import LIMIT_CHARACTERS, YamlTextError, read, rewritten
from ringfence import __version__
from ringfence.policy.problems import Problem, Severity

_BAD_INPUT: Final = 2
_EPILOG: Final = """\b
Example:
  ringfence k8s inject -f deployment.yaml --trust-domain shop.example | kubectl apply -f -
  helm template shop ./shop | ringfence k8s inject -f - --settings injector.json
"""


@click.command(name="inject", epilog=_EPILOG)
@click.option("-f", "--filename", "source", metavar="FILE", required=True, help="File of objects; - is standard input.")
@click.option("--trust-domain", metavar="NAME", help="The mesh's trust domain.")
@click.option("--image", metavar="IMAGE", help=f"The sidecar's image.  [default: ringfence:{__version__}]")
@click.option("--cni", is_flag=True, help="The nodes' CNI plugin redirects, so no container needs a capability.")
@click.option("--namespace", "-n", default="default", show_default=True, help="Of objects that name none.")
@click.option(
    "--settings",
    "settings_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The injector's settings, JSON.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object: what became of each object, and the documents.")
def command(
    *,
    source: str,
    trust_domain: str | None,
    image: str | None,
    cni: bool,
    namespace: str,
    settings_file: Path | None,
    as_json: bool,
) -> None:
    """Put a sidecar into each pod of a file, as the webhook of a cluster would.

    Pods are found in Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs and lists of these; all other
    objects, and every comment, stay as they are. Whoever injects twice gets the same. An object stays out of the mesh
    with the label ringfence.io/inject: disabled on its pod's template.

    Exit status: 0 done, 2 something is wrong, and nothing is printed.
    """
    given: dict[str, Any] = {"trust_domain": trust_domain, "image": image, "cni": cni or None}
    settings = _settings(settings_file, {key: value for key, value in given.items() if value is not None})
    file, text = _text(source)
    try:
        documents = read(text)
    except YamlTextError as error:
        _refuse([Problem(file, error.line, error.column, str(error))])
    pairs = [inject_document(one.value, settings, namespace, secrets.token_urlsafe) for one in documents]
    problems = [
        Problem(file, *document.place(one.path), f"{_name(one)}: {message}", severity=severity)
        for document, (_, told) in zip(documents, pairs, strict=True)
        for one in told
        for severity, message in _messages(one)
    ]
    if any(one.is_error for one in problems):
        _refuse(problems)
    for problem in problems:
        click.echo(str(problem), err=True)
    values, told = [value for value, _ in pairs], [one for _, each in pairs for one in each]
    if as_json:
        click.echo(json.dumps({"objects": [_facts(one) for one in told], "documents": values}, indent=2))
        return
    made, kept = rewritten(text, documents, values)
    if not kept:
        click.echo("Note: aliases or blocks of text stood in the way, so comments are left out", err=True)
    click.echo(made, nl=False)
    click.echo(_summary(told), err=True)


def _settings(file: Path | None, given: dict[str, Any]) -> InjectSettings:
    """From a file, with what the command line says over it."""
    try:
        document: Any = {}
        if file is not None:
            document = json.loads(file.read_text())
            if not isinstance(document, dict):
                raise InjectSettingsError(f"{file}: no object (write the injector's settings, JSON)")
        if "trust_domain" not in {**document, **given}:
            raise InjectSettingsError("--trust-domain: missing (give it, or --settings FILE)")
        return read_settings(json.dumps({"image": f"ringfence:{__version__}", **document, **given}))
    except OSError as error:
        _end(f"--settings: cannot read {file}: {(error.strerror or str(error)).lower()}")
    except InjectSettingsError as error:
        _end(str(error))
    except (ValueError, RecursionError) as error:
        _end(f"--settings: {file} is no JSON: {str(error)[:200]} (write the injector's settings)")


def _text(source: str) -> tuple[str, str]:
    """What messages call the source, and what it says."""
    name = "<stdin>" if source == "-" else source
    try:
        if source == "-":
            content = sys.stdin.buffer.read(4 * LIMIT_CHARACTERS + 1)
        else:
            with Path(source).open("rb") as file:
                content = file.read(4 * LIMIT_CHARACTERS + 1)
        return name, content.decode().removeprefix("\ufeff")
    except OSError as error:
        _end(f"-f: cannot read {name}: {(error.strerror or str(error)).lower()}")
    except UnicodeDecodeError:
        _end(f"{name}:1:1: not UTF-8 (save it as UTF-8)")


def _messages(told: Told) -> list[tuple[Severity, str]]:
    wrong = [(Severity.ERROR, told.message)] if told.outcome == "refused" else []
    return [*wrong, *((Severity.WARNING, one) for one in told.warnings)]


def _name(told: Told) -> str:
    return f"{told.kind.lower()} {told.namespace}/{told.name}"


def _facts(told: Told) -> dict[str, Any]:
    return {
        "kind": told.kind,
        "namespace": told.namespace,
        "name": told.name,
        "outcome": told.outcome,
        "reason": told.message,
        "warnings": list(told.warnings),
    }


def _summary(told: list[Told]) -> str:
    """A line for the person; what is not injected is named."""
    injected = sum(one.outcome == "injected" for one in told)
    lines = [f"{_name(one)} stays as it is: {one.message}" for one in told if one.outcome == "untouched"]
    return "\n".join([*lines, f"{injected} of {len(told)} workloads are injected"])


def _refuse(problems: list[Problem]) -> NoReturn:
    for problem in sorted(problems):
        click.echo(str(problem), err=True)
    raise SystemExit(_BAD_INPUT)


def _end(message: str) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    raise SystemExit(_BAD_INPUT)
