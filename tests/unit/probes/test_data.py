"""Reading a task: every form that data comes in, and every refusal as a sentence."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.task import Task
from orrery.probes.data import read_task
from orrery.probes.errors import DataError
from orrery.probes.locations import SourceRoots
from orrery.probes.session import Example, TaskData
from tests.unit.probes.tasks import local_task, pairs, write_jsonl

pytestmark = pytest.mark.unit


def refused(task: Task, roots: SourceRoots | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        read_task(task, roots or SourceRoots())
    return caught.value


def test_one_file_is_divided_in_an_order_that_depends_on_the_examples_alone(tmp_path: Path) -> None:
    rows = pairs(40)
    forward = read_task(local_task(write_jsonl(tmp_path / "a.jsonl", rows)))
    backward = read_task(local_task(write_jsonl(tmp_path / "b.jsonl", rows[::-1])))
    assert forward == backward
    assert (len(forward.train), len(forward.evaluation)) == (28, 12)
    assert forward.labels == ("label 0", "label 1", "label 2")
    assert forward.evaluation[0].options == forward.labels
    assert not {e.input for e in forward.train} & {e.input for e in forward.evaluation}


def test_a_new_row_leaves_nearly_all_others_where_they_were(tmp_path: Path) -> None:
    before = read_task(local_task(write_jsonl(tmp_path / "a.jsonl", pairs(100))))
    after = read_task(local_task(write_jsonl(tmp_path / "b.jsonl", pairs(101))))
    moved = {e.input for e in before.evaluation} ^ {e.input for e in after.evaluation}
    assert len(moved) <= 2


def test_the_digest_changes_with_any_example(tmp_path: Path) -> None:
    rows = pairs(20)
    one = read_task(local_task(write_jsonl(tmp_path / "a.jsonl", rows))).digest
    rows[7]["input"] += "!"
    assert read_task(local_task(write_jsonl(tmp_path / "b.jsonl", rows))).digest != one


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["yes", "no", "maybe"])), min_size=4, max_size=60),
    st.integers(1, 90),
)
def test_dividing_loses_nothing_keeps_equal_inputs_together_and_trains_every_label(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], percent: int
) -> None:
    path = tmp_path_factory.mktemp("divide") / "data.jsonl"
    write_jsonl(path, [{"input": a, "target": b} for a, b in rows])
    task = local_task(path, splits={"evaluationPercent": percent})
    try:
        data = read_task(task)
    except DataError as error:
        assert error.reason in ("EmptySplit", "InvalidTarget", "TooManyLabels")
        return
    assert sorted((e.input, e.target) for e in data.train + data.evaluation) == sorted(rows)
    assert not {e.input for e in data.train} & {e.input for e in data.evaluation}
    assert {e.target for e in data.evaluation} <= {e.target for e in data.train}


def test_every_file_format_gives_the_same_examples(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    rows = pairs(12)
    write_jsonl(tmp_path / "data.jsonl", rows)
    (tmp_path / "data.json").write_text(json.dumps(rows))
    for name, delimiter in (("data.csv", ","), ("data.tsv", "\t")):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, ["input", "target"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    read: list[TaskData] = [read_task(local_task(p)) for p in sorted(tmp_path.glob("data.*"))]
    assert len(read) == 5
    assert all(data == read[0] for data in read)


def test_a_folder_of_splits_with_shards(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train-00000-of-00002.jsonl", pairs(6))
    write_jsonl(tmp_path / "train-00001-of-00002.jsonl", pairs(6, offset=100))
    (tmp_path / "validation").mkdir()
    write_jsonl(tmp_path / "validation" / "part.jsonl", pairs(3, offset=200))
    (tmp_path / "README.md").write_text("not data")
    data = read_task(local_task(tmp_path))
    assert (len(data.train), len(data.evaluation)) == (12, 3)


def test_multiple_choice_takes_options_by_text_by_index_and_in_the_hubs_form(tmp_path: Path) -> None:
    rows = [
        {"input": "1", "target": "b", "options": ["a", "b"]},
        {"input": "2", "target": 1, "options": ["a", "c"]},
        {"input": "3", "target": "d", "options": '["d", "e"]'},
        {"input": "4", "target": "f", "options": {"text": ["f", "g"], "label": ["A", "B"]}},
    ]
    task = local_task(write_jsonl(tmp_path / "d.jsonl", rows), "MultipleChoice", columns={"options": "options"})
    found = {
        e.input: (e.target, e.options) for part in (read_task(task).train, read_task(task).evaluation) for e in part
    }
    assert found == {"1": ("b", ("a", "b")), "2": ("c", ("a", "c")), "3": ("d", ("d", "e")), "4": ("f", ("f", "g"))}


def test_generation_keeps_further_answers_and_divides_though_every_target_differs(tmp_path: Path) -> None:
    rows = [{"input": f"q{i}", "target": [f"a{i}", f"b{i}"]} for i in range(10)]
    data = read_task(local_task(write_jsonl(tmp_path / "d.jsonl", rows), "Generation"))
    assert (len(data.train), len(data.evaluation)) == (7, 3)
    assert all(e == Example(e.input, f"a{e.input[1]}", references=(f"b{e.input[1]}",)) for e in data.train)


@pytest.mark.parametrize(
    ("row", "reason", "sentence"),
    [
        ({"input": "x", "target": None}, "InvalidTarget", "row 5 of the data split has nothing in column 'target'"),
        ({"input": "x", "target": math.nan}, "InvalidTarget", "row 5 of the data split has nan in column 'target'"),
        ({"input": "x", "target": math.inf}, "InvalidTarget", "has inf in column 'target'"),
        ({"input": "  ", "target": "label 0"}, "InvalidInput", "row 5 of the data split has nothing in column 'input'"),
        ({"input": "x"}, "InvalidTarget", "row 5 of the data split has nothing in column 'target'"),
        ({"input": ["x"], "target": "label 0"}, "InvalidInput", "has a list in column 'input': write a text"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, object], reason: str, sentence: str) -> None:
    error = refused(local_task(write_jsonl(tmp_path / "d.jsonl", [*pairs(4), row, *pairs(4, offset=9)])))
    assert error.reason == reason
    assert sentence in str(error)


def test_a_missing_column_names_those_there_are(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", [{"text": "a", "intent": "b"}])
    error = refused(local_task(path, columns={"input": "text"}))
    assert error.reason == "MissingColumn"
    assert str(error) == (
        "task.dataset.columns.target is 'target', and the data split has intent, text: write one of those"
    )


def test_a_label_that_training_never_saw(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", pairs(6))
    write_jsonl(tmp_path / "validation.jsonl", [{"input": "x", "target": "novel"}])
    error = refused(local_task(tmp_path))
    assert error.reason == "UnseenLabel"
    assert (
        "has the label 'novel', which no training example has: add examples of it to the training split, or write one of label 0"
        in str(error)
    )


def test_empty_and_missing_splits(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", pairs(6))
    write_jsonl(tmp_path / "validation.jsonl", [])
    assert refused(local_task(tmp_path)).reason == "EmptySplit"
    error = refused(local_task(tmp_path, splits={"evaluation": "dev"}))
    assert (error.reason, str(error)) == (
        "MissingSplit",
        "task.dataset.splits.evaluation is 'dev': write one of train, validation",
    )
    assert refused(local_task(tmp_path, splits={"evaluation": "train"})).reason == "MissingSplit"
    (tmp_path / "none").mkdir()
    assert refused(local_task(tmp_path / "none")).reason == "UnreadableFile"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("d.jsonl", b'{"input": 1', "line 1 of 'd.jsonl' is not JSON: write one JSON object a line"),
        ("d.jsonl", b"[1]", "line 1 of 'd.jsonl' is a list"),
        ("d.json", b'{"a": 1}', "'d.json' is not a list of objects"),
        ("d.csv", b"input,target\na,b,c\n", "line 2 of 'd.csv' has more fields than the header"),
        (
            "d.csv",
            b'input,target\n"a,b\n',
            "line 2 of 'd.csv' is not valid CSV (unexpected end of data): close its quotes, and double",
        ),
        ("d.csv", b"input,target\n\xff\xfe,b\n", "'d.csv' is not UTF-8 at byte 13"),
        ("d.parquet", b"PAR1 no", "'d.parquet' is not valid parquet ("),
        ("d.xlsx", b"", "d.xlsx' ends in '.xlsx': use one that ends in one of .jsonl"),
        ("shadow", b"", "shadow' has no ending that tells its format: use one that ends in one of .jsonl"),
    ],
)
def test_an_unreadable_file_says_where(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    error = refused(local_task(tmp_path / name))
    assert error.reason == "UnreadableFile"
    assert sentence in str(error)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80), st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet"]))
def test_no_bytes_at_all_make_the_reader_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("bytes") / f"data{suffix}"
    path.write_bytes(content)
    assert str(refused(local_task(path)))


def test_too_many_labels_is_no_classification(tmp_path: Path) -> None:
    error = refused(local_task(write_jsonl(tmp_path / "d.jsonl", pairs(60, labels=50))))
    assert error.reason == "TooManyLabels"
    assert "write Generation or MultipleChoice" in str(error)


def test_one_label_is_no_classification(tmp_path: Path) -> None:
    assert refused(local_task(write_jsonl(tmp_path / "d.jsonl", pairs(9, labels=1)))).reason == "InvalidTarget"


def volume_task(source: dict[str, object]) -> Task:
    return Task.model_validate({"dataset": {"source": source}})


def test_volumes_and_config_maps_are_found_under_their_roots(tmp_path: Path) -> None:
    for folder in (tmp_path / "pvc" / "mine", tmp_path / "maps" / "small", tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
        write_jsonl(folder / "data.jsonl", pairs(9))
    roots = SourceRoots(pvc_root=tmp_path / "pvc", config_map_root=tmp_path / "maps")
    mapped = SourceRoots(pvc={"mine": tmp_path / "elsewhere"})
    claim = volume_task({"pvc": {"claimName": "mine", "path": "data.jsonl"}})
    small = volume_task({"configMap": {"name": "small", "key": "data.jsonl"}})
    assert read_task(claim, roots) == read_task(small, roots) == read_task(claim, mapped)
    gone = refused(volume_task({"pvc": {"claimName": "mine", "path": "no.jsonl"}}), roots)
    assert (gone.reason, "pvc.path is 'no.jsonl', which is not in volume 'mine'" in str(gone)) == ("PathNotFound", True)


def test_a_path_leaves_its_volume_neither_by_dots_nor_by_a_link(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leaves its volume"):
        volume_task({"pvc": {"claimName": "mine", "path": "../other/data.jsonl"}})
    other, mine = tmp_path / "other", tmp_path / "mine"
    other.mkdir()
    (mine / "folder").mkdir(parents=True)
    secret = write_jsonl(other / "secret.jsonl", pairs(9))
    (mine / "link.jsonl").symlink_to(secret)
    (mine / "folder" / "train.jsonl").symlink_to(secret)
    (mine / "way").symlink_to(other)
    roots = SourceRoots(pvc_root=tmp_path)
    for path in ("link.jsonl", "folder", "way/secret.jsonl", "way"):
        error = refused(volume_task({"pvc": {"claimName": "mine", "path": path}}), roots)
        assert error.reason == "PathLeavesVolume", path
        assert "leaves volume 'mine'" in str(error)


def test_a_config_maps_own_links_are_followed(tmp_path: Path) -> None:
    hidden = tmp_path / "small" / "..2026"
    hidden.mkdir(parents=True)
    write_jsonl(hidden / "data.jsonl", pairs(9))
    (tmp_path / "small" / "..data").symlink_to("..2026")
    (tmp_path / "small" / "data.jsonl").symlink_to("..data/data.jsonl")
    task = volume_task({"configMap": {"name": "small", "key": "data.jsonl"}})
    assert len(read_task(task, SourceRoots(config_map_root=tmp_path)).train) == 6


def test_a_builtin_task_that_was_not_fetched_says_which_command_to_run(tmp_path: Path) -> None:
    task = volume_task({"builtin": {"name": "bigbench/intent_recognition"}})
    error = refused(task, SourceRoots(cache=tmp_path))
    assert error.reason == "MissingAsset"
    assert f"is not in {tmp_path}: run 'orrery assets fetch --cache {tmp_path}' first" in str(error)
    unknown = refused(volume_task({"builtin": {"name": "bigbench/intent_recogniton"}}), SourceRoots(cache=tmp_path))
    assert unknown.reason == "UnknownAsset"
    assert "such as bigbench/intent_recognition" in str(unknown)


@pytest.mark.process
def test_reading_data_imports_neither_torch_nor_pandas() -> None:
    code = "import orrery.probes.data, orrery.probes.facts, orrery.probes.runner, sys; "
    code += "sys.exit(any(m in sys.modules for m in ('torch', 'pandas', 'transformers', 'datasets')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
