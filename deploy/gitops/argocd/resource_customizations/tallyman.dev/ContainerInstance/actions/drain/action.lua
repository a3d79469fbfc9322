-- Its service tasks are replaced elsewhere, within minimumHealthyPercent and maximumPercent.
obj.spec.status = "DRAINING"
return obj
