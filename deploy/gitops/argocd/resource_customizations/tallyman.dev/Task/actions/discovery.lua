-- What a person may do to a Task. One of a service is replaced.
local over = obj.spec.desiredStatus == "STOPPED" or (obj.status ~= nil and obj.status.lastStatus == "STOPPED")
return {
  stop = { disabled = over },
}
