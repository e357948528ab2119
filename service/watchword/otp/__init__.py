"""One-time codes: challenges, their lanes of attempts, and the numbers that bound them."""
