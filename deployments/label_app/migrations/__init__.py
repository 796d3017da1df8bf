"""The steps from an older database to this code's; run when the service starts."""
