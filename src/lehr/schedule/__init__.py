"""Schedules: pure functions of the step. See `lehr.schedule.schedule` for THE convention."""
