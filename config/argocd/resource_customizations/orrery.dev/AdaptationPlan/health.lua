-- Health of an AdaptationPlan for Argo CD, as kstatus has it: nothing from a status that is about an older spec, then
-- Reconciling and Stalled in the order in which they stand, then Ready. An infeasible plan is an answer: healthy, and it says so.
local hs = { status = "Progressing", message = "Waiting for the operator" }
if obj.spec ~= nil and obj.spec.suspend == true then
  hs.status = "Suspended"
  hs.message = "Suspended: nothing new is started"
  return hs
end
if obj.status == nil or obj.status.conditions == nil then
  return hs
end
if obj.status.observedGeneration ~= nil and obj.metadata.generation ~= nil
  and obj.status.observedGeneration ~= obj.metadata.generation then
  hs.message = "Waiting for the operator to see the last change"
  return hs
end
local ready = nil
for _, condition in ipairs(obj.status.conditions) do
  local message = condition.message
  if message == nil or message == "" then
    message = condition.reason
  end
  if condition.status == "True" and condition.type == "Reconciling" then
    hs.message = message
    return hs
  end
  if condition.status == "True" and condition.type == "Stalled" then
    hs.status = "Degraded"
    hs.message = message
    return hs
  end
  if condition.type == "Ready" then
    ready = { status = condition.status, message = message }
  end
end
if ready ~= nil then
  hs.message = ready.message
  if ready.status == "True" then
    hs.status = "Healthy"
  end
end
return hs
