"""Reports are untrusted: what cannot be true is refused with a sentence, what was measured counts wherever it was."""

from __future__ import annotations

import base64
from dataclasses import replace
from decimal import Decimal

import pytest

from orrery.api.plan import AdaptationPlan
from orrery.api.probe import Fidelity, Outcome, Parameter, ProbeSpec, Report, Trial
from orrery.planning.advance import advance
from orrery.planning.evidence import Known, gather
from orrery.planning.types import Facts, ProbeRecord, ProbeState
from tests.unit.planning.world import World, make_plan, make_prices

pytestmark = pytest.mark.unit

PLAN = make_plan()


def trial(name: str, shots: int) -> Trial:
    parameters = [
        Parameter(name=n, value=v) for n, v in (("calibration", "none"), ("retriever", "random"), ("shots", str(shots)))
    ]
    return Trial(name=name, strategy="InContext", parameters=parameters, fidelity=Fidelity(evaluation_items=200))


def record(
    plan: AdaptationPlan = PLAN,
    shots: tuple[int, ...] = (1, 8),
    state: ProbeState = ProbeState.SUCCEEDED,
    attempts: int = 1,
    **changes: object,
) -> ProbeRecord:
    spec = ProbeSpec(
        model=plan.spec.models[0],
        task=plan.spec.task,
        trials=[trial(f"t{k}", k) for k in shots],
        accelerator="cpu",
        deadline_seconds=600,
    )
    world = World()
    report = world.report(spec, [world.measure(spec, t) for t in spec.trials], 4.0, 20.0)
    base = ProbeRecord(
        name=f"probe-{'-'.join(map(str, shots))}",
        spec=spec,
        state=state,
        attempts=attempts,
        cost=Decimal("0.01"),
        reserved=Decimal(0),
        seconds=20.0,
        report=report,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def known(*records: ProbeRecord, facts: Facts | None = None) -> Known:
    return gather(PLAN.spec, records, facts or Facts())


def altered(r: ProbeRecord, **changes: object) -> ProbeRecord:
    assert r.report is not None
    return replace(r, report=r.report.model_copy(update=changes))


def altered_trial(r: ProbeRecord, **changes: object) -> ProbeRecord:
    assert r.report is not None
    first, *rest = r.report.trials
    return altered(r, trials=[first.model_copy(update=changes), *rest])


def made(r: ProbeRecord) -> Report:
    assert r.report is not None
    return r.report


def packed(length: int) -> str:
    """That many bytes of items that are all wrong."""
    return base64.b64encode(bytes(length)).decode()


def test_a_true_report_is_kept_with_its_facts_and_speeds() -> None:
    found = known(record())
    assert [e.trial.name for e in found.evidence["small"]] == ["t1", "t8"]
    assert found.task_facts is not None and found.task_facts.train_examples == 400
    assert len(found.work) == 1 and found.load_seconds["small", "cpu"] == [4.0]
    assert not found.refused and not found.retry


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        (altered(record(), probe="probe-0000000000000000"), "the report names the probe 'probe-0000000000000000'"),
        (altered_trial(record(), name="x"), "holds the trial 'x', which was not asked"),
        (altered_trial(record(), name="t8"), "holds the trial 't8' twice"),
        (altered_trial(record(), score=Decimal("1.07")), "has the score 1.07, outside 0 to 1"),
        (altered_trial(record(), score=None), "is Measured without a score or items"),
        (altered_trial(record(), items=900), "scored 900 items of 200"),
        (altered_trial(record(), evaluation_seconds=Decimal(-1)), "reports evaluation_seconds -1, below zero"),
        (altered_trial(record(), train_loss=[Decimal(-1)]), "reports a train loss below zero"),
        (altered(record(), trials=made(record()).trials[:1]), "says it is complete and lacks the trials t8"),
        (altered_trial(record(), bits="not base64!"), "the bits of the trial 't1' are not base64"),
        (altered_trial(record(), bits=packed(25)), "on 200 items, and its bits say 0 right"),
        (altered_trial(record(), bits=packed(24), score=Decimal(0)), "scored 0 on 200 items, and its bits say 0 right"),
        (
            altered_trial(record(), output_tokens=Decimal(3), output_token_quantiles=[1, 2, 3, 4, 99]),
            "wrote answers of 99 tokens, above maxOutputTokens 32",
        ),
        (
            altered_trial(record(), output_tokens=Decimal(3), output_token_quantiles=[3, 2, 1]),
            "has the answer lengths [3, 2, 1]: 5 rising ones and their mean are expected",
        ),
        (
            altered_trial(record(), output_token_quantiles=[1, 2, 3, 4, 5]),
            "has the answer lengths [1, 2, 3, 4, 5]: 5 rising ones and their mean are expected",
        ),
    ],
)
def test_lies_are_refused_and_tried_again(lie: ProbeRecord, sentence: str) -> None:
    found = known(lie)
    assert sentence in found.refused[lie.name]
    assert not found.evidence.get("small")
    assert found.retry == [lie]


def test_a_loss_of_nothing_is_no_loss() -> None:
    task = {"dataset": {"source": {"builtin": {"name": "intents"}}}, "metric": {"name": "NegativeLogLikelihood"}}
    plan = make_plan(task=task)
    for score, believed in ((Decimal(0), False), (Decimal("0.4"), True)):
        lie = altered(
            record(plan),
            trials=[t.model_copy(update={"score": score, "bits": None}) for t in made(record(plan)).trials],
        )
        assert (lie.name in gather(plan.spec, [lie], Facts()).refused) != believed


def test_what_a_machine_cannot_run_is_rejected_as_far_as_it_was_told() -> None:
    """Demonstrations are refused configuration by configuration; what cannot be trained here cannot be with any grid."""
    untold = {"outcome": Outcome.UNSUPPORTED, "score": None, "items": 0, "bits": None, "standard_error": None}
    refused = altered_trial(record(shots=(1,)), **untold, message="one is not enough: write 8")
    tuning = Trial(
        name="l",
        strategy="LoRA",
        parameters=[Parameter(name=n, value=v) for n, v in (("learningRate", "0.001"), ("epochs", "1"), ("rank", "8"))],
        fidelity=Fidelity(training_examples=16, evaluation_items=200),
    )
    spec = record().spec.model_copy(update={"trials": [tuning]})
    told = (
        World()
        .report(spec, [], 4.0, 20.0)
        .model_copy(
            update={
                "trials": [made(refused).trials[0].model_copy(update={"name": "l", "message": "peft is not installed"})]
            }
        )
    )
    rows = advance(PLAN, [refused, replace(record(), name="probe-l", spec=spec, report=told)], make_prices()).rows
    why = {r.candidate: r.reason for r in rows if r.model == "small" and "does not run here" in r.reason}
    demonstrations = {c for c in why if "in-context" in c}
    assert demonstrations == {"small/in-context(shots=1,retriever=random,calibration=none)@cpu"}
    assert why[demonstrations.pop()] == "InContext does not run here: one is not enough: write 8"
    trained = [r for r in rows if r.model == "small" and r.type == "LoRA"]
    assert len(trained) > 1 and {r.reason for r in trained} == {"LoRA does not run here: peft is not installed"}


def test_nan_never_parses() -> None:
    with pytest.raises(ValueError, match="is 'NaN'"):
        Report.model_validate(
            {"probe": "p", "complete": True, "trials": [{"name": "t1", "outcome": "Measured", "score": "NaN"}]}
        )


def test_data_that_differ_from_the_others_are_refused() -> None:
    odd = record(shots=(2,))
    assert odd.report is not None and odd.report.task_facts is not None
    odd = altered(odd, task_facts=odd.report.task_facts.model_copy(update={"digest": "e" * 64}))
    found = known(odd, record(), record(shots=(4,)))
    assert "the data it read has the digest eeeeeeeeeeee, all other data dddddddddddd" in found.refused[odd.name]
    assert len(found.evidence["small"]) == 3
    # What the shell read itself decides over any number of probes.
    shell = World().task_facts.model_copy(update={"digest": "e" * 64})
    found = known(odd, record(), record(shots=(4,)), facts=Facts(task=shell))
    assert len(found.evidence["small"]) == 1 and set(found.refused) == {"probe-1-8", "probe-4"}


def test_a_model_that_moved_on_the_hub_is_refused_and_what_was_read_is_written_down() -> None:
    here, there, data = "a" * 40, "b" * 40, "c" * 40
    hub = {"source": {"huggingFace": {"repo": "me/small", "revision": "v1"}}}
    source = {"huggingFace": {"repo": "me/texts"}}
    plan = make_plan(
        models=[{**make_plan().spec.models[0].to_wire(), **hub}, make_plan().spec.models[1].to_wire()],
        task={"dataset": {"source": source}},
    )
    texts = World().task_facts.model_copy(update={"commit": data})
    one, two, odd = (
        altered(record(plan, shots=(k,)), model_commit=commit, task_facts=texts)
        for k, commit in ((1, here), (2, here), (4, there))
    )
    found = gather(plan.spec, [odd, two, one], Facts())
    assert found.refused == {
        odd.name: "the probe loaded 'v1' of 'me/small' at commit bbbbbbbbbbbb, and other probes at aaaaaaaaaaaa: write the "
        "commit that is to be measured as huggingFace.revision"
    }
    assert len(found.evidence["small"]) == 2 and found.retry == [odd]
    stated = advance(plan, [odd, two, one], make_prices()).status.inputs
    assert stated is not None
    assert [r.to_wire() for r in stated.revisions] == [
        {"kind": "Dataset", "repo": "me/texts", "revision": "main", "commit": data},
        {"kind": "Model", "repo": "me/small", "revision": "v1", "commit": here},
    ]


def test_the_same_examples_of_another_commit_are_the_same_data() -> None:
    readme = altered(record(shots=(2,)), task_facts=World().task_facts.model_copy(update={"commit": "e" * 40}))
    assert not known(readme, record()).refused


def test_a_measurement_counts_whoever_took_it() -> None:
    """Another plan's batch, model name and trial name: the same model, task and parameters are the same measurement."""
    other = make_plan(models=[{**make_plan().spec.models[0].to_wire(), "name": "renamed"}])
    renamed = record(other, shots=(8,), reused=True)
    assert len(known(renamed).evidence["small"]) == 1
    assert len(known(renamed, record()).evidence["small"]) == 2, "one shot and eight, not eight twice"


def test_other_tasks_and_models_tell_nothing() -> None:
    other = make_plan(task={"dataset": {"source": {"builtin": {"name": "elsewhere"}}}})
    assert not known(record(other)).evidence


def test_a_partial_report_counts_for_what_it_measured() -> None:
    half = record(state=ProbeState.FAILED, reason="Error")
    assert half.report is not None
    half = altered(half, complete=False, trials=half.report.trials[:1])
    found = known(half)
    assert [e.trial.name for e in found.evidence["small"]] == ["t1"]
    assert not found.retry, "the rest is asked again in another probe, without what is already paid for"
    again = known(replace(half, attempts=2))
    assert [(e.trial.name, e.result.outcome) for e in again.evidence["small"]] == [
        ("t1", Outcome.MEASURED),
        ("t8", Outcome.FAILED),
    ]


def test_out_of_memory_is_an_answer_about_the_trial_that_ran() -> None:
    dead = record(state=ProbeState.FAILED, report=None, reason="OutOfMemory", retryable=False)
    found = known(dead)
    assert [(e.trial.name, e.result.outcome) for e in found.evidence["small"]] == [("t1", Outcome.OUT_OF_MEMORY)]
    assert not found.retry


def test_retries_end() -> None:
    crash = record(state=ProbeState.FAILED, report=None, reason="Error")
    assert known(crash).retry == [crash]
    found = known(replace(crash, attempts=2))
    assert not found.retry
    assert {e.result.outcome for e in found.evidence["small"]} == {Outcome.FAILED}
    assert "failed after 2 attempts (Error)" in (found.last_failure or "")


def test_a_missing_model_loses_the_model_and_bad_data_the_plan() -> None:
    gone = record(state=ProbeState.FAILED, report=None, reason="ModelNotFound", retryable=False, message="no such repo")
    assert "no such repo" in known(gone).lost_models["small"]
    bad = record(state=ProbeState.FAILED, report=None, reason="MissingColumn", retryable=False, message="no column 'x'")
    assert "no column 'x'" in (known(bad).data_problem or "")
