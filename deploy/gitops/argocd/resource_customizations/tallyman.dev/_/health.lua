-- Health of every kind of Tallyman for Argo CD: what `Ready`, `Reconciling` and `Stalled` say of the generation at hand.
local function is(kind)
  if obj.status ~= nil and obj.status.conditions ~= nil then
    for _, condition in ipairs(obj.status.conditions) do
      if condition.type == kind and condition.status == "True" then
        return condition
      end
    end
  end
  return nil
end

local function answer(status, message)
  return { status = status, message = message or "" }
end

if obj.metadata.deletionTimestamp ~= nil then
  return answer("Progressing", "it is being deleted")
end
-- -1 until the operator has seen it.
if obj.status == nil or obj.status.observedGeneration == nil
    or (obj.metadata.generation ~= nil and obj.status.observedGeneration ~= obj.metadata.generation) then
  return answer("Progressing", "the operator has not seen this generation yet")
end
local stalled = is("Stalled")
if stalled ~= nil then
  return answer("Degraded", stalled.message)
end
if obj.spec ~= nil and (obj.spec.paused == true or obj.spec.suspend == true) then
  return answer("Suspended", "it is paused by its spec")
end
local reconciling = is("Reconciling")
if reconciling ~= nil then
  return answer("Progressing", reconciling.message)
end
local ready = is("Ready")
if ready ~= nil then
  return answer("Healthy", ready.message)
end
return answer("Progressing", "it is not ready")
