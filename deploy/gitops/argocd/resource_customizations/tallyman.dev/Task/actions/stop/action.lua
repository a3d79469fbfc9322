-- As ECS StopTask, and as `kubectl tally stop`.
obj.spec.desiredStatus = "STOPPED"
obj.spec.stopCode = "UserInitiated"
obj.spec.stoppedReason = "Stopped in Argo CD"
return obj
