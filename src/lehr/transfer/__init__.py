"""Rules that carry the hyperparameters of a small model over to a large one; see `lehr.transfer.plan.transfer`."""
