-- Now, beside what is due: a RunTask of what the schedule runs. It goes with the schedule, and counts for none of its limits.

-- Without empty tables: Argo CD would make lists of them.
local function copy(value)
  if type(value) ~= "table" then
    return value
  end
  local found = {}
  for key, inner in pairs(value) do
    found[key] = copy(inner)
  end
  if next(found) == nil then
    return nil
  end
  return found
end

local run = {
  apiVersion = obj.apiVersion,
  kind = "RunTask",
  metadata = {
    -- As long as a name may be, after the longest name of a schedule.
    name = obj.metadata.name .. "-" .. os.date("!%y%m%d%H%M"),
    namespace = obj.metadata.namespace,
    ownerReferences = {
      { apiVersion = obj.apiVersion, kind = obj.kind, name = obj.metadata.name, uid = obj.metadata.uid },
    },
  },
  spec = copy(obj.spec.runTask),
}
return { { operation = "create", resource = run } }
