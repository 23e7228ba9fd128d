"""``ringfence policy schema``: the JSON Schema of policy documents, for editors."""

from __future__ import annotations

import click

from controlplane.policy.publish import schema_text

_EPILOG = """\b
Example:
  ringfence policy schema > policy.schema.json
and in the first line of a file:
  # yaml-language-server: $schema=policy.schema.json
"""


@click.command("schema", epilog=_EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, which it does anyway.")
def command(as_json: bool) -> None:
    """Print the JSON Schema of policy documents."""
    del as_json  # the schema has no other form
    click.echo(schema_text(), nl=False)
