-- What a person may do to a Service.
local paused = obj.spec.paused == true
local last = obj.status ~= nil and obj.status.lastCompletedDeployment or nil
-- What is deployed is another revision than the one that was deployed last, and that one is not asked for already.
local back = last ~= nil and last.taskDefinition ~= obj.status.taskDefinition and last.taskDefinition ~= obj.spec.taskDefinition
return {
  restart = { disabled = paused },
  pause = { disabled = paused },
  resume = { disabled = not paused },
  abort = { disabled = not back },
}
