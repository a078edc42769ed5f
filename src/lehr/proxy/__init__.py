"""Small dense and mixture-of-experts trainings that make the curves which everything else is fitted to."""
