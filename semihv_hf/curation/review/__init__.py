"""People look at records: they accept, edit or reject them, or say which of two is better."""
