"""What commands that ask a cluster have in common: which cluster, which namespace, and how they end.

Exit statuses: 0 done or "yes", 1 failed or "no", 2 bad input and nothing done.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import click

from k8s.daytwo.cluster import Cluster, ClusterError, UnusableError
from k8s.daytwo.references import NoReferenceError

T = TypeVar("T")
Opener = Callable[[str, str], AbstractAsyncContextManager[Cluster]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which cluster is asked. ``namespace``: as given, empty for none."""

    kubeconfig: str
    context: str
    namespace: str
    opener: Opener

    def run(self, ask: Callable[[Cluster], Coroutine[Any, Any, T]]) -> T:
        """What ``ask`` gives; ends the process where the cluster cannot be asked, or where it is interrupted."""

        async def whole() -> T:
            async with self.opener(self.kubeconfig, self.context) as cluster:
                return await ask(cluster)

        try:
            return asyncio.run(whole())
        except NoReferenceError as error:
            refuse(str(error))
        except UnusableError as error:
            refuse(str(error))
        except ClusterError as error:
            fail(str(error))
        except KeyboardInterrupt:
            sys.exit(130)


def _live(kubeconfig: str, context: str) -> AbstractAsyncContextManager[Cluster]:
    try:
        from k8s.daytwo.live import open_cluster
    except ImportError as error:
        raise click.ClickException(
            f"the Kubernetes client is not installed: {error} (pip install 'ringfence[kubernetes]')"
        ) from error
    return open_cluster(kubeconfig, context)


def asks(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command --kubeconfig, --context and --namespace, as ``asked``. Tests give a cluster of their own as the
    click context's ``obj``."""
    return _asking(command, "[default: the context's]")


def asks_of_all(command: Callable[..., None]) -> Callable[..., None]:
    """The same for a command that speaks of more than one namespace where none is given."""
    return _asking(command, "[default: as above]")


def asks_of_target(command: Callable[..., None]) -> Callable[..., None]:
    """The same without --namespace, for a command that is given its namespace otherwise, or is of all."""
    return _asking(command, "")


def _asking(command: Callable[..., None], namespace: str) -> Callable[..., None]:
    @click.option("--kubeconfig", default="", metavar="FILE", help="[default: $KUBECONFIG, ~/.kube/config, the pod's]")
    @click.option("--context", default="", metavar="NAME", help="The context of the kubeconfig. [default: its current]")
    @click.pass_context
    @functools.wraps(command)
    def wrapped(click_context: click.Context, /, *args: Any, **words: Any) -> None:
        opener = click_context.obj if callable(click_context.obj) else _live
        asked = Asked(
            kubeconfig=words.pop("kubeconfig"),
            context=words.pop("context"),
            namespace=words.pop("namespace", ""),
            opener=opener,
        )
        command(*args, asked=asked, **words)

    return click.option("--namespace", "-n", default="", metavar="N", help=namespace)(wrapped) if namespace else wrapped


def plain(text: str) -> str:
    """One line that a terminal only shows: what pods and peers wrote is not to be trusted with it."""
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def refuse(line: str) -> NoReturn:
    """Bad input: nothing was done."""
    click.echo(plain(line), err=True)
    sys.exit(2)


def fail(line: str) -> NoReturn:
    """It failed while running, or the answer is no."""
    click.echo(plain(line), err=True)
    sys.exit(1)
