-- Health of an AdaptationProbe for Argo CD. A probe that failed is Degraded for whoever looks at it; its plan goes on without it.
local hs = { status = "Progressing", message = "Waiting for the operator" }
if obj.status == nil or obj.status.phase == nil then
  return hs
end
hs.message = obj.status.message or obj.status.reason or obj.status.phase
if obj.status.phase == "Succeeded" then
  hs.status = "Healthy"
elseif obj.status.phase == "Failed" then
  hs.status = "Degraded"
end
return hs
