-- What a person may do to a host.
local draining = obj.spec.status == "DRAINING"
return {
  drain = { disabled = draining },
  undrain = { disabled = not draining },
}
