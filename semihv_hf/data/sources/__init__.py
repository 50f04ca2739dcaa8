"""One adapter per upstream release."""
