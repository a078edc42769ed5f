"""Many trainings, run unattended: what to train, the queue in a folder, the engines that work it off."""
