"""Parts of the page as HTML. Every text that anyone wrote passes ``escape``; nothing is put in as markup but what is here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import date
from html import escape

from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.probe import Fidelity, TrialResult
from orrery.api.status import PlanStatus, Recommendation
from orrery.costs.prices import OLD_AFTER_DAYS
from orrery.planning.fleet import Fleet
from orrery.planning.reasons import amount, chance
from orrery.planning.types import ProbeRecord, ResultRow
from orrery.report.break_even import BreakEven, sentences, words
from orrery.report.data import flops

#: Longest text of one's own that is shown whole in a sentence.
_LONG = 120
#: Rows in the page itself, for readers without script; the script shows them all.
STATIC_ROWS = 25


def short(text: str) -> str:
    """Escaped, and cut where it would drown the sentence around it."""
    return escape(text if len(text) <= _LONG else text[: _LONG - 1] + "…")


def answer(plan: AdaptationPlan, status: PlanStatus, currency: str) -> str:
    """The answer in a sentence, then the few numbers behind it."""
    best, days = status.recommendation, plan.spec.workload.horizon_days
    if best is None:
        ready = next((c.message for c in status.conditions if c.type in ("Ready", "Reconciling")), "")
        said = "No candidate meets the objective" if status.phase == "Infeasible" else "There is no answer yet"
        return f'<p class="answer">{said}.</p><p>{escape(ready)}</p>'
    q, c = best.quality, best.cost
    set_up = ", ".join(f"{p.name} {p.value}" for p in best.configuration)
    sure = chance(float(best.confidence))
    lead = "Use" if status.phase == "Answered" else "So far: use"
    sentence = (
        f"{lead} <b>{short(best.model)}</b> with <b>{short(best.strategy)}</b>"
        f"{f' ({short(set_up)})' if set_up else ''} on {short(best.accelerator)}: "
        f"{escape(plan.spec.task.metric.name.value)} {float(q.predicted):.3f} for {amount(float(c.total))} "
        f"{escape(currency)} over {days} days."
    )
    facts = [
        ("Quality", f"{float(q.predicted):.3f}", f"{float(q.lower):.3f} to {float(q.upper):.3f}, {_basis(best)}"),
        ("Total cost", f"{amount(float(c.total))} {currency}", f"{amount(float(c.lower))} to {amount(float(c.upper))}"),
        ("Of that, once", f"{amount(float(c.adaptation))} {currency}", f"serving {amount(float(c.serving))}"),
        ("Meets the objective", sure, f"{float(plan.spec.objective.confidence):.0%} asked"),
    ]
    if c.accelerator_hours is not None:
        flops = float(c.adaptation_flops or 0) + float(c.serving_flops or 0)
        facts.append(("Compute", f"{float(c.accelerator_hours):,.1f} h", f"{flops:.2e} FLOPs in all"))
    if c.cost_of_pass is not None:
        facts.append(("Cost of pass", f"{amount(float(c.cost_of_pass))} {currency}", "expected money per right answer"))
    if best.latency_milliseconds is not None:
        facts.append(("Latency", f"{float(best.latency_milliseconds):,.0f} ms", "of a request"))
    if status.spend is not None:
        saved = status.spend.saved_percent
        beside = (
            f"{_percent(float(saved))} less than measuring all" if saved is not None and saved > 0 else "for probes"
        )
        facts.append(("Spent to know", f"{amount(float(status.spend.cost))} {currency}", beside))
    confirmed = ""
    if status.confirmation is not None:
        message = status.confirmation.message
        confirmed = f"<p><b>Confirming:</b> {escape(message)}.</p>"
    cards = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in facts
    )
    return (
        f'<p class="answer">{sentence}</p><p>{escape(best.message[:1].upper() + best.message[1:])}</p>{confirmed}<dl class="cards">{cards}</dl>'
        '<p class="note">Figures are medians, and the ranges hold the true value with 90 %; candidates are compared by '
        "their expected quality, which differs from the median where the forecast is wide.</p>"
    )


def _percent(value: float) -> str:
    """Never 100 % of something that was not all."""
    return "over 99 %" if 99 < value < 100 else f"{value:.0f} %"


def _basis(best: Recommendation) -> str:
    return "measured in full" if best.measured else "forecast"


def break_even(crossing: BreakEven | None, requests: float, currency: str) -> str:
    """From how many requests on the better candidate of one kind is cheaper than that of the other."""
    if crossing is None:
        return "<p>There is no pair of a trained and an untrained candidate with costs to compare.</p>"
    return f"<p>{sentences(crossing, requests, currency, escape, '<b>{}</b>'.format)}</p>"


def mix(found: Fleet | None, plan: AdaptationPlan, currency: str) -> str:
    """The cheapest mix of accelerators that serves the answer within the limit on latency; empty where there is no choice."""
    if found is None:
        return ""
    head = [
        "Accelerator",
        f"{currency} an hour",
        "Slowest ms",
        "Alone",
        f"Alone {currency} an hour",
        "In the mix",
        "Requests",
    ]
    body = []
    for k, (name, price) in enumerate(zip(found.kinds, found.prices, strict=True)):
        one, bought = found.alone[k], found.mix
        alone = ["too slow", "-"] if one is None else [str(one.replicas[0]), amount(one.price_per_hour)]
        share = [] if bought is None else [str(bought.replicas[k]), f"{found.shares @ bought.shares[:, k]:.0%}"]
        body.append([name, amount(price), f"{1000 * found.latency[:, k].max():,.0f}", *alone, *(share or ["-", "-"])])
    body += [[name, "-", "-", why, "-", "-", "-"] for name, why in found.excluded]
    said = escape(found.sentence(plan.spec, currency))
    caption = "Accelerators to serve the answer on"
    return f"<h3>{caption}</h3><p>{said[:1].upper() + said[1:]}.</p>{grid(head, body, caption=caption)}"


def table(rows: Sequence[ResultRow], currency: str) -> str:
    """The first rows, as a table that needs no script."""
    head = ["Model", "Strategy", "Configuration", "Quality", f"Total {currency}"]
    head += [f"{currency} per right answer", "Accelerator hours", "FLOPs", "Status", "Reason"]
    body = [
        [
            r.model,
            r.strategy,
            words(r),
            f"{r.quality.median:.3f}" if r.quality else "-",
            amount(r.total_cost.median) if r.total_cost else "-",
            amount(r.cost_of_pass) if r.cost_of_pass is not None and math.isfinite(r.cost_of_pass) else "-",
            "-" if r.accelerator_hours is None else amount(r.accelerator_hours),
            f"{flops(r):.2e}",
            r.status,
            r.reason,
        ]
        for r in rows[:STATIC_ROWS]
    ]
    return grid(head, body, caption=f"The first {min(len(rows), STATIC_ROWS):,} of {len(rows):,} candidates")


def measured(plan: AdaptationPlan, rows: Sequence[ResultRow], records: Sequence[ProbeRecord], currency: str) -> str:
    """Every probe with what it found, and the pairs of which nothing was measured."""
    full = sum(row.measured for row in rows)
    pairs = {(r.model, r.strategy): r.type for r in rows if r.quality is not None}
    seen: set[tuple[str, str]] = set()
    body: list[list[str]] = []
    for record in records:
        results = {t.name: t for t in record.report.trials} if record.report is not None else {}
        for trial in record.spec.trials:
            result = results.get(trial.name)
            if result is not None and result.score is not None:
                seen.add((record.spec.model.name, trial.strategy))
            body.append(
                [
                    record.spec.model.name,
                    trial.strategy,
                    ", ".join(f"{p.name} {p.value}" for p in trial.parameters),
                    _how(trial.fidelity),
                    f"{trial.fidelity.training_examples:,}" if trial.fidelity.training_examples else "-",
                    _found(result),
                    f"{result.items:,}" if result is not None else "-",
                    result.outcome.value if result is not None else record.state.value,
                    record.name,
                ]
            )
    missing = sorted({(m, s) for (m, s), kind in pairs.items() if (m, kind) not in seen})
    probes = [
        [
            r.name,
            r.spec.model.name,
            "reused" if r.reused else r.state.value.lower(),
            str(r.attempts),
            f"{r.seconds:,.1f}",
            amount(float(r.cost)),
            "" if r.reason in ("", "Completed", "Reused") else f"{r.reason}: {r.message}",
        ]
        for r in records
    ]
    spent = sum(float(r.cost) for r in records)
    budget = amount(float(plan.spec.budget.max_probe_cost))
    said = [
        f"<p>{len(records):,} probes took {len(body):,} measurements for {amount(spent)} of the {budget} "
        f"{escape(currency)} allowed. {full:,} of {len(rows):,} candidates were measured in full; the other "
        f"{len(rows) - full:,} are forecast.</p>"
    ]
    if missing:
        names = [f"{short(model)} / {short(strategy)}" for model, strategy in missing[:20]]
        rest = f" and {len(missing) - 20:,} more" if len(missing) > 20 else ""
        said.append(f"<p><b>Never measured</b>, forecast from the others alone: {', '.join(names)}{rest}.</p>")
    found = ["Model", "Strategy", "Configuration", "How", "Trained on", "Score", "Items", "Outcome", "Probe"]
    ran = ["Probe", "Model", "State", "Attempts", "Seconds", f"Cost {currency}", "Remark"]
    said.append(_folded(f"{len(body):,} measurements", grid(found, body, caption="Measurements")))
    said.append(_folded(f"{len(probes):,} probes", grid(ran, probes, caption="Probes")))
    return "".join(said)


def _how(fidelity: Fidelity) -> str:
    """How a trial measured, in a table's words."""
    percent = fidelity.schedule_percent
    return fidelity.method.value.lower() if percent is None else f"first {percent} % of the steps"


def _found(result: TrialResult | None) -> str:
    """The score, or the train loss of a training that was stopped before there was one."""
    if result is None or result.score is None:
        return f"train loss {result.train_loss[-1]}" if result is not None and result.train_loss else "-"
    return _score(result.score, result.standard_error)


def _score(score: object, error: object) -> str:
    return f"{float(str(score)):.3f}" + (f" ± {float(str(error)):.3f}" if error is not None else "")


def inputs(plan: AdaptationPlan, prices: PriceList, status: PlanStatus, manifest: str, today: date) -> str:
    """What the answer rests on, with the age of the prices."""
    given, spec = status.inputs, prices.spec
    age = (today - spec.date).days
    old = f" — {age:,} days old: check them before you rely on the money" if age > OLD_AFTER_DAYS else ""
    facts = [
        ("Plan", f"{plan.metadata.namespace}/{plan.metadata.name}"),
        ("Prices", f"{prices.metadata.name}, {spec.currency}, of {spec.date.isoformat()}{old}"),
        ("Source of the prices", spec.source),
    ]
    if given is not None:
        facts += [
            ("Digest of the plan", given.plan_digest),
            ("Digest of the prices", given.price_digest),
            ("Digest of the data", given.data_digest or "not read"),
            *((f"Commit of {r.repo} ({r.revision})", r.commit) for r in given.revisions),
            ("Seed", str(given.seed)),
            ("Probes' image", given.image or "-"),
            ("Orrery", given.version or "-"),
        ]
    rows = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)
    return f'<dl class="facts">{rows}</dl>' + _folded("The plan as it was asked", f"<pre>{escape(manifest)}</pre>")


def grid(head: Sequence[str], body: Iterable[Sequence[str]], caption: str) -> str:
    """A table; it scrolls by itself where the screen is narrow, and so can be reached by keyboard."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>" for cells in body)
    named = f'role="region" aria-label="{escape(caption, quote=True)}"'
    return (
        f'<div class="scroll" tabindex="0" {named}><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"
