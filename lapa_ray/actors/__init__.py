"""Ray actors of the one loop in the house: worker → replay server → learner → weights → worker."""
