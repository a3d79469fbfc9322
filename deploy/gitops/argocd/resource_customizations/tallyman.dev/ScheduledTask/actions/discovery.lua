-- What a person may do to a schedule.
local suspended = obj.spec.suspend == true
return {
  suspend = { disabled = suspended },
  resume = { disabled = not suspended },
  run = { disabled = false },
}
