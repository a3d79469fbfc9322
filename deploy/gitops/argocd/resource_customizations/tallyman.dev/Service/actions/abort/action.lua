-- Back to the revision that was deployed last, as by `kubectl tally undo`: it is pinned until git is synced again.
obj.spec.taskDefinition = obj.status.lastCompletedDeployment.taskDefinition
return obj
