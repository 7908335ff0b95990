"""``orrery probe``: one AdaptationProbe in this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orrery.cli.options import RootOption

if TYPE_CHECKING:
    from orrery.api.probe import ProbeSpec

#: The spec itself, as JSON; how a Job hands it to its container.
SPEC_VARIABLE = "ORRERY_PROBE_SPEC"


def probe(
    spec: Annotated[
        str | None,
        typer.Argument(
            metavar="SPEC",
            help="File with an AdaptationProbe or its spec, - for standard input; $ORRERY_PROBE_SPEC by default.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Where to write the report; standard output by default."),
    ] = None,
    root: RootOption = None,
) -> None:
    """Measure what one AdaptationProbe asks for and write its report, JSON of at most 4,096 bytes.

    Exit code 0 when a report was written, whatever the trials came to; 2 when the spec is bad.
    """
    parsed = read_spec(spec)
    from orrery.probes.locations import SourceRoots
    from orrery.probes.report import encode
    from orrery.probes.runner import run

    roots = SourceRoots.from_environment(root)
    if report is not None:
        run(parsed, report, roots)
        return
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        result = run(parsed, Path(folder) / "report.json", roots)
    sys.stdout.write(encode(result).decode() + "\n")


def read_spec(source: str | None) -> ProbeSpec:
    """A probe's spec from a file, standard input or the environment.

    Raises ``ManifestError`` with everything that is wrong.
    """
    from orrery.api import yamltext
    from orrery.api.load import ManifestError, parse, parse_model, text_of
    from orrery.api.probe import AdaptationProbe, ProbeSpec
    from orrery.api.sentences import Problem

    if source is None:
        text = os.environ.get(SPEC_VARIABLE, "")
        where = SPEC_VARIABLE
        if not text.strip():
            raise ManifestError([Problem("SPEC", "", f"is missing: give a file, - or set {SPEC_VARIABLE}")])
    elif source == "-":
        text, where = sys.stdin.read(), "standard input"
    else:
        text, where = text_of(Path(source)), source
    try:
        documents = yamltext.read(text)
    except ValueError as error:
        raise ManifestError([Problem("the file", "", str(error))], where) from None
    if len(documents) != 1:
        raise ManifestError([Problem("the file", "", f"holds {len(documents)} documents: write exactly one")], where)
    document = documents[0]
    if isinstance(document, dict) and "kind" not in document and "apiVersion" not in document:
        return parse_model(ProbeSpec, document, where)
    resource = parse(document, where)
    if not isinstance(resource, AdaptationProbe):
        raise ManifestError([Problem("kind", resource.kind, f"is '{resource.kind}': write AdaptationProbe")], where)
    return resource.spec
