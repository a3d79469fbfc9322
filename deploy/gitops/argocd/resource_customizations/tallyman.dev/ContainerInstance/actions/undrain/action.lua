obj.spec.status = "ACTIVE"
return obj
