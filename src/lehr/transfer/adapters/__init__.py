"""Roles and multipliers in the modules of other libraries; one file a library, none of which is imported."""
