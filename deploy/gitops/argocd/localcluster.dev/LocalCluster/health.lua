-- Health of LocalClusters, Registries, pools and claims in Argo CD, by the conditions that docs/status.md describes. Argo CD reports an
-- object that is being deleted as Progressing by itself.
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local function holds(type)
  return conditions[type] ~= nil and conditions[type].status == "True"
end

-- A paused object is not observed, so its status is that of an older generation.
if holds("Paused") then
  return { status = "Suspended", message = conditions.Paused.message }
end
if status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "waiting for the operator to process the spec" }
end
-- Only what the user has to change is Degraded: during a sync, that fails it.
if holds("Stalled") then
  return { status = "Degraded", message = conditions.Stalled.message }
end
if holds("Ready") then
  return { status = "Healthy", message = "everything is as desired" }
end
if conditions.Ready == nil and holds("Stopped") then
  return { status = "Suspended", message = conditions.Stopped.message }
end
local ready = conditions.Ready or {}
return { status = "Progressing", message = ready.message or "" }
