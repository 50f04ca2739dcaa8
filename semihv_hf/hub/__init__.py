"""What is published on the Hub: cards, later uploads."""
