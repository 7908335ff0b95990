"""Whatever a stranger gives to a command: exit code 2 and a sentence that says what to give instead."""

import shutil

import pytest
import yaml

from orrery.cli import main
from orrery.local.publish import publish, write_inputs
from tests.unit.planning.plans import PRICES as PLAN_PRICES
from tests.unit.planning.plans import tiny
from tests.unit.planning.world import World, drive

pytestmark = pytest.mark.unit

PRICES = {
    "apiVersion": "orrery.dev/v1alpha1",
    "kind": "PriceList",
    "metadata": {"name": "list"},
    "spec": {"currency": "USD", "source": "test", "date": "2026-01-01"},
}
#: File: its bytes, and what is said of it by every command that reads manifests.
FILES = {
    "tab.yaml": (b"a:\n\t- b\n", "line 2: found character '\\t' that cannot start any token: indent with spaces"),
    "colon.yaml": (b"a: b: c\n", "line 1: mapping values are not allowed here: put a text that holds ': ' in quotes"),
    "tag.yaml": (b"a: !!python/name:os.system x\n", "python/name:os.system': leave the tag out"),
    "cut.json": (b"[1, 2", "line 1: expected ',' or ']'"),
    "nul.yaml": (b"a: b\0c", "holds the character #x00, which YAML does not: give a text file"),
    "binary.yaml": (b"\x93NUMPY\xff\xfe\x00", "is not UTF-8 text: give a YAML file"),
    "deep.yaml": (b"[" * 2_000, "is nested too deeply: write a plain manifest"),
    "text.yaml": (b"just text", "the manifest is 'just text': write a mapping with apiVersion and kind"),
    "kind.yaml": (yaml.dump(PRICES | {"kind": "PriceLists"}).encode(), "(did you mean PriceList?)"),
    "version.yaml": (yaml.dump(PRICES | {"apiVersion": "orrery.dev/v1"}).encode(), "write 'orrery.dev/v1alpha1'"),
    "n\u00e4me \u6587.yaml": (
        b"apiVersion: orrery.dev/v1alpha1\nkind: Pl\xc3\xa4n\n",
        "kind is 'Pl\u00e4n': write one of",
    ),
}
READERS = (
    ("validate",),
    ("estimate",),
    ("run",),
    ("explain",),
    ("report",),
    ("render",),
    ("watch", "--once"),
    ("prices", "show"),
    ("prices", "diff", "good.yaml"),
    ("prices", "hosted", "gpt-4o", "--add-to"),
    ("probe",),
    ("train", "-o", "out"),
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "text.yaml"))
    for name, (content, _) in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "good.yaml").write_text(yaml.dump(PRICES))
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    (tmp_path / "folder").mkdir()
    return tmp_path


def refused(orrery, *arguments) -> str:
    """What is said; where it is one of our sentences, alone."""
    code, out, err = orrery(*arguments)
    assert code == 2, (code, out, err)
    assert "Orrery failed" not in err and "Traceback" not in err
    said = " ".join((err or out).split())  # validate tells its verdict on standard output
    assert said.startswith("error: ") or "Error: " in said or ": invalid" in said
    return said


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_a_file_that_is_no_manifest(folder, orrery, command):
    # the others read through the same door
    for name in FILES if command == ("validate",) else ("tab.yaml", "binary.yaml", "kind.yaml"):
        assert FILES[name][1] in refused(orrery, *command, name), name
    for name in ("missing.yaml", "empty.yaml", "folder"):
        said = refused(orrery, *command, name)
        assert any(mend in said for mend in (" give ", " write ", "`orrery run`", "holds none of")), (name, said)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("valdate", "good.yaml"), "No such command 'valdate'. Did you mean 'validate'?"),
        (("validate", "good.yaml", "--otput", "json"), "No such option: --otput"),
        (("validate", "good.yaml", "--output", "xml"), "'xml' is not one of 'table', 'json', 'yaml'"),
        (("validate", "good.yaml", "--pvc", "data=missing"), "missing is no folder: write one that is"),
        (("estimate", "good.yaml", "--top", "-1"), "Invalid value for '--top'"),
        (("run", "good.yaml", "--memory-limit", "1"), "greater than or equal to 64"),
        (("crds", "--check"), "--check is given without a folder: give it with --output DIR"),
        (("crds", "--output", "good.yaml"), "is a file, or lies below one, where a folder is needed"),
        (("prices", "diff", "good.yaml", "good.yaml", "folder"), "folder holds no answer yet: `orrery run` the plan"),
        (("prices", "hosted", "no-such-model"), "is no model that genai-prices lists: write"),
        (("operator", "--log-level", "LOUD"), "'LOUD' is not one of 'debug', 'info', 'warning', 'error'"),
        (("operator", "--reports", "99999"), "less than or equal to 65535"),
        (("watch", "-n", "shop"), "KUBECONFIG names a file that is no kubeconfig): set KUBECONFIG"),
        (("explain", "-n", "shop", "plan"), "KUBECONFIG names a file that is no kubeconfig): set KUBECONFIG"),
        (("probe",), "SPEC is missing: give a file, - or set ORRERY_PROBE_SPEC"),
    ],
)
def test_an_option_that_cannot_be_meant(folder, orrery, monkeypatch, arguments, expected):
    monkeypatch.delenv("ORRERY_PROBE_SPEC", raising=False)
    assert expected in refused(orrery, *arguments)


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """The state folder of an answered plan."""
    folder, plan = tmp_path_factory.mktemp("state"), tiny()
    write_inputs(folder, plan, PLAN_PRICES)
    publish(folder, plan, drive(plan, PLAN_PRICES, World(seed=3)).last, 0.0)
    return folder


@pytest.mark.parametrize("damage", [b"\x93NUMPY\xff", b"a: [1,\n", b""], ids=["binary", "cut", "empty"])
@pytest.mark.parametrize("file", ["plan.yaml", "prices.yaml", "results.jsonl"])
def test_a_state_folder_that_was_damaged(folder, orrery, answered, file, damage):
    shutil.copytree(answered, folder / "state")
    (folder / "state" / file).write_bytes(damage)
    for command in (
        ("explain",),
        ("report",),
        ("render",),
        ("watch", "--once"),
        ("prices", "diff", answered / "prices.yaml", answered / "prices.yaml"),
    ):
        code, _, err = orrery(*command, "state")
        assert code in (0, 2) and "Orrery failed" not in err and "Traceback" not in err, (command, err)
        if code == 2:
            assert err.startswith("error: state") and err.count("\n") == 1, err


def test_what_no_cluster_would_take_is_not_rendered(folder, orrery, answered):
    assert "error: --claim is 'Ümläut': write the name of a" in refused(orrery, "render", answered, "--claim", "Ümläut")
    assert "error: --assets-claim is 'a/b': write" in refused(orrery, "render", answered, "--assets-claim", "a/b")
    assert orrery("render", answered, "--claim", "models.1")[0] == 0


def test_which_document_of_a_file_is_meant_is_said(folder, orrery):
    (folder / "two.yaml").write_text("---\n".join([yaml.dump(PRICES), yaml.dump(PRICES | {"kind": "List0"})]))
    assert "error: two.yaml: document 2: kind is 'List0'" in refused(orrery, "estimate", "two.yaml")


@pytest.mark.parametrize("command", [(), *((name,) for name in main.COMMANDS)], ids=" ".join)
def test_help_is_there_by_its_short_name_too(orrery, command):
    code, out, err = orrery(*command, "-h")
    assert (code, err) == (0, "") and out.startswith("Usage: orrery")
    assert "...}..." not in out
