-- Every task is replaced, as by `kubectl tally restart`. A deployment that was given up is tried again.
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["tallyman.dev/restartedAt"] = os.date("!%Y-%m-%dT%XZ")
return obj
