{{/* The alerts: when, and what a person reads. Each has a heading of its own name in docs/runbook.md. */}}
{{- define "orrery.alerts" -}}
{{- $rule := .Values.metrics.prometheusRule -}}
- alert: OrreryOperatorAbsent
  severity: warning
  for: 10m
  expr: absent(orrery_build_info)
  summary: No Orrery operator is running, so plans wait.
- alert: OrreryNobodyHoldsTheLease
  severity: warning
  for: 5m
  expr: max(orrery_lease_held) == 0
  summary: An Orrery operator runs but holds no Lease, so nothing is started.
- alert: OrreryWatchDead
  severity: warning
  for: 2m
  expr: max by (resource) (orrery_watch_overdue_seconds) > 30
  summary: {{ "'The watch of {{ $labels.resource }} is silent about a change that a list showed {{ $value | humanizeDuration }} ago.'" }}
- alert: OrreryWatchMissesChanges
  severity: warning
  for: 30m
  expr: increase(orrery_watch_missed_changes_total[15m]) > 0
  summary: Changes keep being found by listing that no watch had told of; plans are answered late.
- alert: OrreryReconcileErrors
  severity: warning
  for: 15m
  expr: sum by (reason) (increase(orrery_reconcile_errors_total[15m])) > 5
  summary: {{ "'Reconciling fails again and again ({{ $labels.reason }}); the operator''s log says why.'" }}
- alert: OrreryPlanStalled
  severity: info
  for: {{ $rule.stalledFor }}
  expr: orrery_plan_condition{type="Stalled",status="True"} == 1
  summary: {{ "'Plan {{ $labels.namespace }}/{{ $labels.plan }} waits for a person; its Stalled condition says what to mend.'" }}
- alert: OrreryPlanWaits
  severity: info
  for: {{ $rule.waitingFor }}
  expr: |-
    max by (namespace, plan) (orrery_plan_probes{state="queued"}) > 0
    unless on (namespace, plan) max by (namespace, plan) (orrery_plan_probes{state="running"}) > 0
  summary: {{ "'No probe of plan {{ $labels.namespace }}/{{ $labels.plan }} runs; its Reconciling condition says what they wait for.'" }}
- alert: OrreryBudgetNearlySpent
  severity: info
  expr: |-
    (orrery_plan_spent + orrery_plan_reserved) / orrery_plan_budget > {{ $rule.budgetShare }}
    and on (namespace, plan) orrery_plan_condition{type="Reconciling",status="True"} == 1
  summary: {{ "'Plan {{ $labels.namespace }}/{{ $labels.plan }} has {{ $value | humanizePercentage }} of its budget spent or set aside.'" }}
- alert: OrreryBudgetOverspent
  severity: critical
  # money is exact in the plans, and here it is floating point: .1 and .2 are more than .3
  expr: orrery_plan_spent + orrery_plan_reserved > orrery_plan_budget * 1.000000001
  summary: {{ "'Plan {{ $labels.namespace }}/{{ $labels.plan }} is past its budget, which must never be; suspend it and report a bug.'" }}
- alert: OrreryNamespaceBudgetNearlySpent
  severity: info
  expr: |-
    sum by (namespace, budget) (orrery_namespace_budget{amount=~"spent|reserved"})
    / sum by (namespace, budget) (orrery_namespace_budget{amount="limit"} > 0) > {{ $rule.budgetShare }}
  summary: {{ "'The AdaptationBudget {{ $labels.namespace }}/{{ $labels.budget }} has {{ $value | humanizePercentage }} of its month spent or set aside; its plans will wait.'" }}
- alert: OrreryForecastErrorHigh
  severity: info
  expr: abs(orrery_plan_prediction_error) > {{ $rule.forecastError }}
  summary: {{ "'The recommendation of plan {{ $labels.namespace }}/{{ $labels.plan }} was forecast {{ $value | humanize }} away from what was measured.'" }}
- alert: OrreryProbesFail
  severity: warning
  for: 5m
  # three attempts at the least: of one, half is nothing
  expr: |-
    namespace:orrery_probe_failures:ratio1h > {{ $rule.failureShare }}
    and sum by (namespace) (sum_over_time(namespace_outcome:orrery_probe_attempts:increase[1h])) >= 3
  summary: {{ "'{{ $value | humanizePercentage }} of the probe attempts in namespace {{ $labels.namespace }} failed within an hour; they are paid for.'" }}
{{- end -}}
